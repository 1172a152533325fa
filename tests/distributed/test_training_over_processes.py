"""A training over several processes against the same one in a single process, without and with a stop in between.

Every head in configs/head, its class centres in shards or replicated, all of them or a sample (Partial FC). On the CPU,
and on GPUs where there are four.
"""

import math
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from facerec.processes.group import this_process
from facerec.training.checkpoint import CheckpointStore
from facerec.training.optimizer import SGD, AdamW
from facerec.training.trainer import Trainer
from tests.noise_source import NoiseSource
from tests.numerics.conftest import HEAD_CONFIGS, build, read_head_config
from tests.processes import run_processes
from tests.unit.training.trainers import EMBEDDING_DIM, SIZE_PX, build_trainer

MICRO_BATCH, GLOBAL_BATCH, NUM_STEPS, STOP_AFTER = 4, 48, 20, 7
LR = 0.002  # at ten times that, rounding errors grow by a factor of 5 a step: batch normalisation over 4 samples
WAYS: dict[str, dict[str, Any]] = {
    "sharded": {},
    "replicated": {"sharding": "replicated"},
    "sampled": {"sample_rate": 0.3},
}
CASES = {f"{path.stem}, {way}": (path.stem, change) for path in HEAD_CONFIGS for way, change in WAYS.items()}
QUICK = ["curricularface, sharded", "subcentre_arcface, sampled"]
"""One that learns a state, one whose shards are cut between sub-centres."""

ON_GPUS = torch.cuda.device_count() >= 4

Outcome = dict[str, dict[str, torch.Tensor]]


def make_trainer(folder: Path, name: str, num_classes: int, parts: dict[str, Any]) -> Trainer:
    head_name, change = CASES[name]
    config = read_head_config(next(path for path in HEAD_CONFIGS if path.stem == head_name))
    newest = CheckpointStore().newest(folder / "checkpoints")
    return build_trainer(
        folder,
        head=build(config | change, num_classes=num_classes, embedding_dim=EMBEDDING_DIM, seed=3),
        source=NoiseSource(num_classes=num_classes, images_per_class=math.ceil(80 / num_classes), size_px=SIZE_PX),
        global_batch_size=GLOBAL_BATCH,
        micro_batch_size=MICRO_BATCH,
        dropout=0.4,
        device="cuda" if ON_GPUS else "cpu",
        optimizer={"sgd": SGD(lr=LR), "adamw": AdamW(lr=LR / 10)}[parts.pop("method", "sgd")],
        resume_from=newest,
        **{"num_steps": NUM_STEPS, "precision": "fp64", "clip_grad_norm": 5.0, **parts},
    )


def train(folder: Path, name: str, num_classes: int, parts: dict[str, Any]) -> Outcome:
    """This process's part of a training: the loss of every step, of all processes, and all that was trained.

    With `stop`, the last process gets a SIGTERM in the last step before it is to stop.
    """
    parts = dict(parts)
    stops = parts.pop("stop", False)
    processes = this_process()
    trainer = make_trainer(folder, name, num_classes, parts)
    num_own = len(trainer.loader.own_micro_batches)
    losses: list[torch.Tensor] = []

    def note(_module: Any, _inputs: Any, output: Any) -> None:
        losses.append(output.loss.detach())
        if stops and len(losses) == STOP_AFTER * num_own and processes.rank == processes.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.objective.register_forward_hook(note)
    result = trainer.fit()
    assert result.step == (STOP_AFTER if stops else trainer.timetable.num_steps)
    sums = torch.stack(losses).view(-1, num_own).sum(dim=1)
    sums = torch.stack(processes.gather_objects(sums)).sum(dim=0)  # all_reduce adds in an order that follows its length
    by_step = sums / trainer.loader.num_micro_batches
    first = result.step - len(by_step)
    outcome = {"losses": {f"step {first + number}": loss for number, loss in enumerate(by_step)}}
    state = {f"network.{key}": value for key, value in trainer.network.state_dict().items()}
    if trainer.state.average is not None:
        state |= {f"average.{key}": value for key, value in trainer.state.average.network.state_dict().items()}
    state |= {f"objective.{key}": value for key, value in trainer.objective.state_dict().items()}
    momenta = {key: value for key, value in trainer.state.tensors().items() if key.endswith("momentum_buffer")}
    if trainer.objective.head.is_sharded:
        whole = ("objective.head.centres.", "objective.head.rows.", "optimizer.objective.head.centres.")
        for tensors in (state, momenta):
            parts_of = processes.gather_objects({key: value for key, value in tensors.items() if key.startswith(whole)})
            for key in parts_of[0]:  # an empty shard has no momentum
                tensors[key] = torch.cat([part[key] for part in parts_of if key in part])
    outcome |= {"state": state, "momenta": momenta}
    return {part: {key: value.cpu() for key, value in tensors.items()} for part, tensors in outcome.items()}


def train_all(names: list[str], num_classes: int, parts: dict[str, Any]) -> list[Outcome]:
    outcomes = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            shared = Path(this_process().gather_objects(folder)[0])
            outcomes.append(train(shared, name, num_classes, parts))
            this_process().gather_objects(None)  # the first one's folder stays as long
    return outcomes


def assert_close(found: Outcome, expected: Outcome, *, name: str, rtol: float = 1e-10, atol: float = 1e-9) -> None:
    """Losses to rtol; all that was trained to atol, of each tensor's largest entry where that is above 1."""
    for step, loss in found["losses"].items():
        torch.testing.assert_close(
            loss, expected["losses"][step], rtol=rtol, atol=0, msg=lambda m, step=step: f"{name}, {step}: {m}"
        )
    assert found["state"].keys() == expected["state"].keys()
    for key, value in expected["state"].items():
        largest = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(
            found["state"][key], value, rtol=0, atol=atol * largest, msg=lambda m, key=key: f"{name}, {key}: {m}"
        )


def assert_first_gradients_close(found: Outcome, expected: Outcome, *, name: str) -> None:
    """To 1e-5 of each tensor's largest entry; SGD's momentum after one step is the gradient, and weight decay's share.

    Gradients of biases before a normalisation are nothing but rounding: those, of a hundredth of the largest of all.
    """
    assert found["momenta"].keys() == expected["momenta"].keys() and expected["momenta"]
    largest = {key: float(value.abs().max()) for key, value in expected["momenta"].items()}
    floor = 0.01 * max(largest.values())
    for key, value in expected["momenta"].items():
        error = float((found["momenta"][key] - value).abs().max()) / max(largest[key], floor)
        assert error <= 1e-5, f"{name}, gradient of {key}: {error:.1e}"


def compare(
    names: list[str],
    world_size: int,
    *,
    num_classes: int,
    parts: dict[str, Any],
    expected: list[Outcome] | None = None,
    **tolerance: float,
) -> None:
    """Fails unless all processes find what one alone does, which may be given as `expected`."""
    expected = expected or train_all(names, num_classes, parts)
    for rank, outcomes in enumerate(run_processes(world_size, train_all, names, num_classes, parts, on_gpus=ON_GPUS)):
        for name, found, of_one in zip(names, outcomes, expected, strict=True):
            assert_close(found, of_one, name=f"{name}, process {rank} of {world_size}", **tolerance)


@pytest.fixture(scope="module")
def every_head_alone() -> list[Outcome]:
    return train_all(list(CASES), 10, {})


def test_some_heads_over_three_processes():
    compare(QUICK, 3, num_classes=10, parts={})


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_every_head_over_processes(world_size, every_head_alone):
    compare(list(CASES), world_size, num_classes=10, parts={}, expected=every_head_alone)


@pytest.mark.slow
def test_more_processes_than_classes():
    compare(["arcface, sharded", "softmax, sampled"], 4, num_classes=3, parts={})


@pytest.mark.slow
def test_other_parts_over_processes():
    """What else has a share in a step: AdamW, a moving average, a ramp, gradients that travel in bf16."""
    compare(["adaface, sharded"], 4, num_classes=10, parts={"method": "adamw", "ema_decay": 0.9})
    compare(["magface, sampled"], 4, num_classes=10, parts={"method": "adamw", "margin_ramp_epochs": 3.0})


@pytest.mark.slow
def test_first_step_in_fp32():
    parts = {"num_steps": 1, "precision": "fp32"}
    of_one = train_all(list(CASES), 10, parts)
    of_four = run_processes(4, train_all, list(CASES), 10, parts, on_gpus=ON_GPUS)[1]
    for name, found, expected in zip(CASES, of_four, of_one, strict=True):
        assert_close(found, expected, name=name, rtol=1e-5, atol=1e-5)
        assert_first_gradients_close(found, expected, name=name)


def stop_and_resume(
    folder: Path, world_sizes: tuple[int, int], name: str, num_classes: int, parts: dict[str, Any]
) -> Outcome:
    """Trains in the first number of processes until it is stopped, and goes on in the second."""
    run_processes(world_sizes[0], train, folder, name, num_classes, {**parts, "stop": True}, on_gpus=ON_GPUS)
    return resume(folder, world_sizes[1], name, num_classes, parts)


def resume(folder: Path, world_size: int, name: str, num_classes: int, parts: dict[str, Any]) -> Outcome:
    if world_size == 1:
        return train(folder, name, num_classes, parts)
    outcomes = run_processes(world_size, train, folder, name, num_classes, parts, on_gpus=ON_GPUS)
    for other in outcomes[1:]:
        assert_same_bits(other, outcomes[0], running_statistics=False)
    return outcomes[0]


def assert_same_bits(found: Outcome, expected: Outcome, *, running_statistics: bool = True) -> None:
    for step, loss in found["losses"].items():
        assert torch.equal(loss, expected["losses"][step]), step
    for key, value in expected["state"].items():
        if running_statistics or not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(found["state"][key], value), key


def test_saved_by_two_processes_and_resumed_by_one(tmp_path):
    name, parts = "subcentre_arcface, sampled", {"ema_decay": 0.9}
    (expected,) = train_all([name], 10, parts)
    assert_close(stop_and_resume(tmp_path, (2, 1), name, 10, parts), expected, name=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_classes", "parts"),
    [
        ("adaface, sharded", 10, {"ema_decay": 0.9}),
        ("softmax, sampled", 10, {"method": "adamw"}),
        ("subcentre_arcface, sharded", 3, {"method": "adamw"}),
        ("curricularface, replicated", 10, {}),
    ],
)
def test_saved_by_four_processes_and_resumed_by_others(name, num_classes, parts, tmp_path):
    parts = {**parts, "deterministic": True, "num_steps": STOP_AFTER + 20}
    of_four = run_processes(4, train_all, [name], num_classes, parts, on_gpus=ON_GPUS)[0][0]
    run_processes(4, train, tmp_path / "stopped", name, num_classes, {**parts, "stop": True}, on_gpus=ON_GPUS)
    for world_size in (1, 2, 3, 4):
        folder = tmp_path / str(world_size)
        shutil.copytree(tmp_path / "stopped", folder)
        found = resume(folder, world_size, name, num_classes, parts)
        assert_close(found, of_four, name=f"{name} on {world_size}")
        if world_size == 4:
            assert_same_bits(found, of_four)
