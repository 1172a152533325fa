"""Plain settings of the trainer: how to train, and when to evaluate."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from facerec.core.errors import ConfigError
from facerec.core.log import LOGGER
from facerec.core.metric import Metric, leading
from facerec.core.protocols import Embedder, Evaluator
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.networks.embedding_net import EmbeddingNet
from facerec.training.checkpoint import check_interval
from facerec.training.data_parallel import Compression
from facerec.training.precision import Precision


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How to train: all keys of the section `trainer`.

    Args:
        num_epochs, num_steps: length of the run, exactly one of the two. A step is one optimizer update.
        micro_batch_size: samples in one forward pass; divides the global batch. None: the global batch itself.
        precision: fp32, bf16 or fp16 (autocast; fp16 with a gradient scaler), or fp64 for comparisons.
        device: auto (CUDA, else CPU), cpu, cuda, cuda:<n>, mps; see `own_device`.
        clip_grad_norm: largest norm of the network's gradient, without the head's; None does not clip.
        margin_ramp_epochs: epochs over which the head's margin grows linearly from 0.
        ema_decay: decay of a moving average of the weights, for example 0.9999 (see `MovingAverage`). The average is
            then evaluated and stored as a checkpoint's model; the trained weights are in the training state.
        class_mean_images: images per identity that a head with init=class_mean uses; None: all.
        channels_last: memory layout of the convolutions.
        compile: torch.compile the network; needs a C++ compiler on the CPU.
        deterministic: only deterministic kernels, so that a resumed run is bit-identical on a GPU too.
        num_threads: CPU threads of torch, in each process; None keeps torch's default.
        sync_batch_norm: batch normalisation over the micro-batches of all processes, on GPUs; results then depend on
            the number of processes.
        compress_gradients: number format in which processes exchange the network's gradients.

    Raises:
        ConfigError: both lengths or none are set, or a number is out of range.
    """

    num_epochs: float | None = None
    num_steps: int | None = None
    micro_batch_size: int | None = None
    precision: Precision = "fp32"
    device: str = "auto"
    clip_grad_norm: float | None = None
    margin_ramp_epochs: float = 0.0
    ema_decay: float | None = None
    class_mean_images: int | None = None
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    num_threads: int | None = None
    sync_batch_norm: bool = False
    compress_gradients: Compression = "none"

    def __post_init__(self) -> None:
        if (self.num_epochs is None) == (self.num_steps is None):
            raise ConfigError(
                f"trainer.num_epochs={self.num_epochs}, trainer.num_steps={self.num_steps}; set exactly one of the two,"
                " the other to null"
            )
        positive = ("num_epochs", "num_steps", "micro_batch_size", "clip_grad_norm", "num_threads", "class_mean_images")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"trainer.{name}={value}; expected a positive number")
        if not 0 <= self.margin_ramp_epochs < math.inf:
            raise ConfigError(f"trainer.margin_ramp_epochs={self.margin_ramp_epochs}; expected 0 or more")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"trainer.ema_decay={self.ema_decay}; expected a number between 0 and 1, or null")
        if self.compress_gradients not in get_args(Compression):
            raise ConfigError(
                f"trainer.compress_gradients={self.compress_gradients}; expected one of "
                f"{', '.join(get_args(Compression))}"
            )
        if self.precision not in get_args(Precision):
            raise ConfigError(f"trainer.precision={self.precision}; expected one of {', '.join(get_args(Precision))}")

    def margin_fraction(self, step: int, *, steps_per_epoch: float) -> float:
        """Returns the fraction of the head's margin that is used at a step, 0 .. 1."""
        ramp_steps = self.margin_ramp_epochs * steps_per_epoch
        return min(1.0, step / ramp_steps) if ramp_steps > 0 else 1.0


def embedder_of(network: EmbeddingNet) -> Embedder:
    """Returns the network as an embedder, with the preprocessing of its training."""
    return NetworkEmbedder(network=network, input_spec=network.input_spec)


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Which benchmarks to run, and when.

    Args:
        evaluators: the benchmarks.
        embedder: makes the benchmarks' embedder from the network.
        every_steps, every_epochs: at most one of the two; a run always evaluates at its end.
        at_start: evaluate before the first step too, as step 0.

    Raises:
        ConfigError: both intervals are set, or one is not positive.
    """

    evaluators: Sequence[Evaluator] = ()
    embedder: Callable[[EmbeddingNet], Embedder] = embedder_of
    every_steps: int | None = None
    every_epochs: float | None = None
    at_start: bool = False

    def __post_init__(self) -> None:
        check_interval("eval", every_steps=self.every_steps, every_epochs=self.every_epochs)

    def measure(self, network: EmbeddingNet, *, step: int) -> tuple[list[Metric], float]:
        """Runs all benchmarks after `step` steps, and logs the leading metrics.

        Returns all metrics, under eval/<benchmark>/, and the seconds that they took.
        """
        embed, started = self.embedder(network), time.perf_counter()
        measured: list[Metric] = []
        for evaluator in self.evaluators:
            metrics = list(evaluator.evaluate(embed))
            for metric in leading(metrics):
                LOGGER.info("step %d  %s: %s %s", step, evaluator.name, metric.name, metric.text())
            measured += [metric.within(f"eval/{evaluator.name}") for metric in metrics]
        return measured, time.perf_counter() - started
