"""What is augmented on the device reaches the network the same however the run is cut, shared and interrupted."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facerec.data.augment import Augment
from facerec.training.trainer import Trainer
from tests.processes import run_processes
from tests.unit.training.trainers import PlainNet, build_trainer, parameters_of, same_bits, stopping_at

ON_DEVICE = (
    {"HorizontalFlip": {"p": 0.5}},
    {"ColorJitter": {"p": 0.7}},
    {"GaussianBlur": {"p": 0.3}},
    {"Erasing": {"p": 0.4}},
)
PARTS = {"on_device": ON_DEVICE, "global_batch_size": 8, "micro_batch_size": 4, "num_steps": 5}


def seen_by(trainer: Trainer) -> list[torch.Tensor]:
    """Fills, as the trainer trains, with what the network is given: uint8 (B, H, W, 3), a micro-batch each."""
    seen: list[torch.Tensor] = []
    spec = trainer.network.input_spec
    trainer.network.register_forward_pre_hook(lambda _module, inputs: seen.append(spec.denormalise(inputs[0])))
    return seen


def expected_of(trainer: Trainer) -> list[torch.Tensor]:
    """The same from the loader's batches, one sample at a time."""
    augment = Augment(on_device=ON_DEVICE).on_device
    expected = []
    for batch in trainer.loader.batches(first_step=0, end_step=trainer.timetable.num_steps):
        first = batch.step * 8 + batch.micro_index * 4
        alone = [
            augment(image[None], seed=trainer.loader.seed, positions=np.array([first + number]))
            for number, image in enumerate(batch.images)
        ]
        expected.append(torch.cat(alone))
    return expected


def test_network_and_terms_see_the_batch_augmented_by_place_in_the_stream(make_trainer):
    trainer = make_trainer(**PARTS, network=PlainNet())
    seen, of_terms = seen_by(trainer), []
    trainer.objective.register_forward_pre_hook(lambda _module, inputs: of_terms.append(inputs[2]))
    trainer.fit()
    expected = expected_of(trainer)
    raw = [batch.images for batch in trainer.loader.batches(first_step=0, end_step=5)]
    assert len(seen) == len(of_terms) == len(expected) == 10
    for network, terms, reference, before in zip(seen, of_terms, expected, raw, strict=True):
        assert torch.equal(network, reference) and torch.equal(terms, reference)
        assert not torch.equal(reference, before)


def test_stopped_run_resumes_to_the_same_bits(make_trainer):
    parts = {**PARTS, "num_steps": 9, "transforms": ({"GaussNoise": {"p": 0.5}},)}
    whole = make_trainer("whole", **parts, network=PlainNet())
    whole.fit()
    stopped = stopping_at(make_trainer("stopped", **parts, network=PlainNet()), 3, signal.SIGTERM)
    result = stopped.fit()
    assert (result.step, result.finished) == (4, False)
    resumed = make_trainer("stopped", **parts, network=PlainNet(), resume_from=result.checkpoint)
    assert resumed.fit().finished
    assert same_bits(parameters_of(resumed), parameters_of(whole))
    other = make_trainer("other", **{**parts, "on_device": ()}, network=PlainNet())
    other.fit()
    assert not same_bits(parameters_of(other), parameters_of(whole))


def train(folder: Path, parts: dict[str, Any]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """What this process's network was given, and its parameters at the end."""
    trainer = build_trainer(folder, network=PlainNet(), **parts)
    seen = seen_by(trainer)
    trainer.fit()
    return seen, {name: value for name, value in parameters_of(trainer).items() if not name.startswith("head.")}


@pytest.mark.slow
def test_two_processes_see_what_one_sees(tmp_path):
    parts = {**PARTS, "num_steps": 3, "precision": "fp64"}
    seen, trained = train(tmp_path / "alone", parts)
    shared = run_processes(2, train, tmp_path / "shared", parts)
    for number, images in enumerate(seen):  # two micro-batches a step: one for each process
        assert torch.equal(shared[number % 2][0][number // 2], images)
    for name, value in trained.items():
        torch.testing.assert_close(shared[0][1][name], value, rtol=1e-10, atol=1e-12)


def test_flip_on_the_device_is_as_good_a_coin_as_the_flip_of_the_readers(make_trainer):
    """Other samples are flipped, as many, and the same number of times for any cut of the batch."""
    flip = {"on_device": ({"HorizontalFlip": {"p": 0.5}},), "num_steps": 25}
    shares = []
    for micro_batch_size in (4, 8):
        trainer = make_trainer(
            str(micro_batch_size), **{**PARTS, **flip, "micro_batch_size": micro_batch_size}, network=PlainNet()
        )
        seen = seen_by(trainer)
        trainer.fit()
        raw = torch.cat([batch.images for batch in trainer.loader.batches(first_step=0, end_step=25)])
        images = torch.cat(seen)
        was_flipped = (images == raw.flip(2)).flatten(1).all(dim=1)
        assert torch.equal(images[~was_flipped], raw[~was_flipped])
        shares.append(was_flipped)
    assert torch.equal(*shares) and abs(shares[0].float().mean().item() - 0.5) < 4 * 0.5 / 200**0.5
