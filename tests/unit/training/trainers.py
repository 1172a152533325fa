"""A trainer over noise, with every part replaceable, and what its tests look at."""

import os
import signal
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facerec.core.input_spec import InputSpec
from facerec.core.metric import SHARE, Metric
from facerec.core.protocols import Embedder
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.heads.combined import MarginHead
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.iresnet import IResNet
from facerec.networks.neck import BNDropoutFCBN
from facerec.processes.group import this_process
from facerec.runs.run_log import RunLog
from facerec.training.checkpoint import CheckpointStore
from facerec.training.optimizer import SGD
from facerec.training.schedule import Polynomial
from facerec.training.settings import EvaluationPlan, TrainerSettings
from facerec.training.trainer import Trainer
from tests.noise_source import NoiseSource

SIZE_PX, EMBEDDING_DIM = 16, 32


def small_network(*, dropout: float = 0.0, seed: int = 0) -> EmbeddingNet:
    """A quarter-width IResNet-18 for 16 x 16 pixels: 10 ms a step."""
    torch.manual_seed(seed)
    return join(
        backbone=IResNet(depth=18, width_multiplier=0.25),
        neck=partial(BNDropoutFCBN, embedding_dim=EMBEDDING_DIM, dropout=dropout),
        input_spec=InputSpec(height_px=SIZE_PX, width_px=SIZE_PX),
    )


def build_trainer(run_dir: Path, **parts: Any) -> Trainer:
    """`parts` replace arguments of `Trainer`; what is left over are arguments of `TrainerSettings`."""
    take = parts.pop
    source = take("source", None) or NoiseSource(num_classes=5, images_per_class=4, size_px=SIZE_PX)
    global_batch_size = take("global_batch_size", 8)
    loader = BatchLoader(
        source=source,
        augment=Augment(transforms=take("transforms", ()), on_device=take("on_device", ())),
        global_batch_size=global_batch_size,
        micro_batch_size=take("micro_batch_size", None) or global_batch_size,
        seed=1,
        order=take("order", None),
        on_corrupt=take("on_corrupt", "error"),
        processes=this_process(),
    )
    head = take("head", None) or MarginHead(num_classes=5, embedding_dim=EMBEDDING_DIM, m2=0.3, scale=16.0)
    evaluators = take("evaluators", ())
    eval_every_steps = take("eval_every_steps", None)
    return Trainer(
        network=take("network", None) or small_network(dropout=take("dropout", 0.0)),
        objective=Objective(head=head),
        loader=loader,
        optimizer=take("optimizer", None) or SGD(lr=0.02),
        schedule=take("schedule", None) or Polynomial(),
        checkpoints=take("checkpoints", None) or CheckpointStore(),
        evaluation=EvaluationPlan(
            evaluators=evaluators,
            embedder=lambda net: NetworkEmbedder(network=net, input_spec=net.input_spec),
            every_steps=eval_every_steps,
            every_epochs=take("eval_every_epochs", None),
            at_start=take("eval_at_start", False),
        ),
        run_log=RunLog(run_dir=run_dir, tensorboard=take("tensorboard", False), writes=this_process().is_first),
        log_every_steps=take("log_every_steps", 1),
        seed=take("seed", 1),
        about=take("about", {"trained_on": {"data_root": "noise"}}),
        freeze=take("freeze", None),
        samples_every_steps=take("samples_every_steps", None),
        resume_from=take("resume_from", None),
        settings=TrainerSettings(**{"num_steps": 4, "device": "cpu", "num_threads": 1, **parts}),
    )


def stopping_at(trainer: Trainer, step: int, number: int = signal.SIGTERM) -> Trainer:
    """The trainer, with a signal sent in the middle of the forward pass of a step."""

    def send(*_: object) -> None:
        calls.append(0)
        if len(calls) == step * trainer.loader.num_micro_batches + 1:
            os.kill(os.getpid(), number)

    calls: list[int] = []
    trainer.network.register_forward_hook(send)
    return trainer


def start_at_scale(trainer: Trainer, scale: float) -> None:
    """Gives the gradient scaler of fp16 another scale to begin with."""
    scaler = trainer.state.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": scale})


class PlainNet(nn.Module):
    """Two layers without batch norm or dropout, so that a batch may be cut anywhere."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.input_spec = InputSpec(height_px=SIZE_PX, width_px=SIZE_PX)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.fc = nn.Linear(8 * 7 * 7, EMBEDDING_DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.tanh(self.conv(x)).flatten(1))

    def card(self) -> dict[str, Any]:
        return {}


class Accuracy:
    """An evaluator with figures decided beforehand."""

    name = "fake"

    def __init__(self, figures: Iterable[float]) -> None:
        self.figures = list(figures)
        self.shapes: list[tuple[int, ...]] = []

    def evaluate(self, embed: Embedder) -> Iterator[Metric]:
        self.shapes.append(embed(np.zeros((2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)).shape)
        yield Metric(name="accuracy", value=self.figures[len(self.shapes) - 1], unit=SHARE, is_leading=True)


def parameters_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers, of the head too."""
    named = [*trainer.network.state_dict().items(), *trainer.objective.state_dict().items()]
    return {name: value.detach().clone() for name, value in named}


def same_bits(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are identical."""
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def largest_relative_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Of the floating-point tensors, each relative to its largest entry."""
    assert found.keys() == expected.keys()
    return max(
        ((found[name] - value).abs().max() / value.abs().max()).item()
        for name, value in expected.items()
        if value.is_floating_point()
    )


def checkpoint_steps(trainer: Trainer) -> list[int]:
    """The steps of which there is a checkpoint."""
    return sorted(
        int(path.name.removeprefix("step-")) for path in (trainer.run_log.files.path / "checkpoints").iterdir()
    )
