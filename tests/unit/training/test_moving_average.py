"""The moving average follows the weights by its formula, is what is evaluated and stored, and survives a stop."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facerec.core.metric import Metric
from facerec.networks.weights import read_model
from facerec.training.checkpoint import CheckpointStore
from facerec.training.moving_average import MovingAverage
from facerec.training.observers import StepOutcome
from facerec.training.optimizer import SGD
from tests.unit.training.trainers import SIZE_PX, parameters_of, same_bits, small_network, start_at_scale, stopping_at


def perturbed(network, step: int):
    """The network, with every parameter and buffer moved by noise."""
    torch.manual_seed(step)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(torch.randn(tensor.shape) if tensor.is_floating_point() else 1)
    return network


@pytest.mark.parametrize("decay", [0.3, 0.9999])
def test_average_of_parameters_and_statistics_follows_the_formula_with_its_warm_up(decay):
    network = small_network()
    average = MovingAverage(network, decay=decay)
    expected: dict[str, np.ndarray] = {}
    for step in range(12):
        state = perturbed(network, step).state_dict()
        average.after_step(StepOutcome(step=step, lr=0.1, grad_norm=torch.ones(()), is_skipped=False, waited_s=0.0))
        d = 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))
        for name, value in state.items():
            expected[name] = d * expected.get(name, np.zeros(1)) + (1 - d) * value.double().numpy()
    found = average.network.state_dict()
    for name, value in expected.items():
        if found[name].is_floating_point():
            np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            assert found[name] == network.state_dict()[name] == 12
    assert not any(module.training for module in average.network.modules())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert network.backbone.conv1.weight.requires_grad and network.training


class Embeddings:
    """An evaluator that keeps what it saw."""

    name = "fake"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def evaluate(self, embed) -> Iterator[Metric]:
        generator = np.random.Generator(np.random.Philox(1))
        self.seen.append(embed(generator.integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)))
        yield Metric(name="accuracy", value=0.5)


def test_average_is_what_is_evaluated_and_stored_and_training_does_not_notice(make_trainer):
    evaluator = Embeddings()
    trainer = make_trainer(num_steps=5, ema_decay=0.5, evaluators=[evaluator], optimizer=SGD(lr=0.1))
    result = trainer.fit()
    plain = make_trainer("plain", num_steps=5, optimizer=SGD(lr=0.1))
    plain.fit()
    assert same_bits(parameters_of(trainer), parameters_of(plain))
    averaged = trainer.state.average.network.state_dict()
    assert not torch.equal(averaged["conv1.weight"], trainer.network.backbone.conv1.weight)
    assert not torch.equal(averaged["bn1.running_mean"], trainer.network.backbone.bn1.running_mean)
    stored = read_model(str(result.checkpoint))
    assert same_bits(stored.state, averaged)
    (seen,) = evaluator.seen
    image = np.random.Generator(np.random.Philox(1)).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = stored.network()(trainer.network.input_spec.normalise(torch.from_numpy(image))).numpy()
    # Sums of large terms: what is right of a coordinate depends on the longest one, and on the processor.
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("precision", "stop_after"), [("fp32", 1), ("fp16", 4), ("fp64", 4)])
def test_stopped_run_resumes_to_the_same_bits_of_weights_and_average(precision, stop_after, make_trainer):
    parts = {"num_steps": 7, "ema_decay": 0.6, "precision": precision, "micro_batch_size": 4, "dropout": 0.4}
    whole = make_trainer("whole", **parts)
    whole.fit()
    stopped = stopping_at(make_trainer("stopped", **parts), stop_after - 1).fit()
    assert stopped.step == stop_after
    resumed = make_trainer("stopped", **parts, resume_from=stopped.checkpoint)
    resumed.fit()
    assert same_bits(parameters_of(resumed), parameters_of(whole))
    assert same_bits(resumed.state.average.network.state_dict(), whole.state.average.network.state_dict())
    assert same_bits(read_model(str(resumed.run_log.files.path)).state, read_model(str(whole.run_log.files.path)).state)


def test_average_keeps_the_memory_layout_after_a_restore(make_trainer):
    first = make_trainer(num_steps=2, ema_decay=0.5, checkpoints=CheckpointStore())
    checkpoint: Path = first.fit().checkpoint
    again = make_trainer(num_steps=2, ema_decay=0.5, resume_from=checkpoint)
    again.fit()
    weight = again.state.average.network.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_step_that_fp16_skips_leaves_the_average_as_it_was(make_trainer):
    trainer = make_trainer(precision="fp16", num_steps=1, ema_decay=0.5)
    before = {name: value.clone() for name, value in trainer.state.average.network.state_dict().items()}
    start_at_scale(trainer, 2.0**60)
    trainer.fit()
    assert same_bits(trainer.state.average.network.state_dict(), before)
