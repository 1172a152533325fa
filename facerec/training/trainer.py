"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from facerec.core.batch import Batch
from facerec.core.device import choose_device, keep_freed_memory
from facerec.core.errors import ConfigError
from facerec.core.protocols import Embedder, Evaluator
from facerec.core.run_log import LOGGER, RunLog
from facerec.core.seeding import torch_seed_of
from facerec.data.loader import BatchLoader
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet
from facerec.training.checkpoint import CheckpointStore, TrainState, check_interval
from facerec.training.finite_guard import FiniteGuard
from facerec.training.optimizer import OptimizerSettings
from facerec.training.precision import Precision, autocast, environment, make_deterministic
from facerec.training.progress import Progress
from facerec.training.schedule import Schedule
from facerec.training.stop_signal import StopSignal


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How to train; everything that a configuration says under `trainer`.

    Args:
        num_epochs, num_steps: length of the run, exactly one of the two. A step is one optimizer update.
        micro_batch_size: samples of one forward pass; divides the global batch. None: the global batch itself.
        precision: fp32, bf16 or fp16 (autocast; fp16 with a gradient scaler), or fp64 for comparisons.
        device: auto (CUDA, else CPU), cpu, cuda, cuda:<n>, mps.
        clip_grad_norm: largest norm of the network's gradient, the head's excluded; None does not clip.
        margin_ramp_epochs: epochs over which the head's margin grows linearly from 0.
        channels_last: memory layout of the convolutions.
        compile: torch.compile the network; needs a C++ compiler on the CPU.
        deterministic: only deterministic kernels, so that a resumed run is bit-identical on a GPU too.
        num_threads: CPU threads of torch; None leaves torch's choice.

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
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    num_threads: int | None = None

    def __post_init__(self) -> None:
        if (self.num_epochs is None) == (self.num_steps is None):
            raise ConfigError(
                f"trainer.num_epochs={self.num_epochs}, trainer.num_steps={self.num_steps}; set exactly one of the two"
            )
        for name in ("num_epochs", "num_steps", "micro_batch_size", "clip_grad_norm", "num_threads"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"trainer.{name}={value}; expected a positive number")
        if not 0 <= self.margin_ramp_epochs < math.inf:
            raise ConfigError(f"trainer.margin_ramp_epochs={self.margin_ramp_epochs}; expected 0 or more")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"trainer.precision={self.precision}; expected one of {', '.join(get_args(Precision))}")


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """When to run which benchmarks.

    Args:
        evaluators: the benchmarks.
        embedder: from the network to what the benchmarks call.
        every_steps, every_epochs: at most one of the two; a run always evaluates at its end.

    Raises:
        ConfigError: both intervals are set, or one is not positive.
    """

    evaluators: Sequence[Evaluator] = ()
    embedder: Callable[[EmbeddingNet], Embedder]
    every_steps: int | None = None
    every_epochs: float | None = None

    def __post_init__(self) -> None:
        check_interval("eval", every_steps=self.every_steps, every_epochs=self.every_epochs)


@dataclass(kw_only=True)
class TrainResult:
    """How a call of `Trainer.fit` ended.

    Attributes:
        step: optimizer steps done.
        finished: False when a signal stopped it before its end.
        checkpoint: the one at that step.
        metrics: the newest figures of the benchmarks.
    """

    step: int
    finished: bool
    checkpoint: Path
    metrics: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Trains a network under an objective, from wherever the run directory stands.

    Args:
        network, objective: what is trained, on the CPU.
        loader: micro-batches of any step.
        optimizer, schedule: the rate at a step is optimizer.lr times schedule.factor.
        settings: see `TrainerSettings`.
        evaluation: see `EvaluationPlan`.
        checkpoints: see `CheckpointStore`.
        run_log: where figures go.
        log_every_steps: steps between two lines of figures.
        seed: of dropout.
        about: plain values about the data and the code, stored with every checkpoint.
        resume_from: a checkpoint of this run, or None to begin.

    Raises:
        ConfigError: log_every_steps is not positive, or a micro-batch of one sample meets batch normalisation.
    """

    def __init__(
        self,
        *,
        network: EmbeddingNet,
        objective: Objective,
        loader: BatchLoader,
        optimizer: OptimizerSettings,
        schedule: Schedule,
        settings: TrainerSettings,
        evaluation: EvaluationPlan,
        checkpoints: CheckpointStore,
        run_log: RunLog,
        log_every_steps: int,
        seed: int,
        about: dict[str, Any],
        resume_from: Path | None = None,
    ) -> None:
        if log_every_steps < 1:
            raise ConfigError(f"logging.every_steps={log_every_steps}; expected 1 or more")
        if loader.micro_batch_size == 1 and any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
            raise ConfigError(
                "one sample per forward pass, but the network normalises over the batch: set data.global_batch_size "
                "and trainer.micro_batch_size to 2 or more"
            )
        self.network = network
        self.objective = objective
        self.loader = loader
        self.optimizer_settings = optimizer
        self.schedule = schedule
        self.settings = settings
        self.evaluation = evaluation
        self.checkpoints = checkpoints
        self.run_log = run_log
        self.log_every_steps = log_every_steps
        self.seed = seed
        self.about = about
        self.resume_from = resume_from
        self.exact_steps_per_epoch = Fraction(len(loader.source), loader.sampler.global_batch_size)
        self.steps_per_epoch = float(self.exact_steps_per_epoch)
        self.num_steps = settings.num_steps or max(1, int(self._steps_of(settings.num_epochs or 0)))
        self.metrics: dict[str, float] = {}
        self.metrics_step: int | None = None

    def fit(self) -> TrainResult:
        """Trains to the end, or to the end of the step in which SIGINT or SIGTERM came.

        Raises:
            TrainingError: a loss or a weight is not finite.
            CheckpointError: the checkpoint to resume from does not fit, or none can be written.
            DataError: a sample cannot be read.
        """
        self._set_up()
        step = first_step = self._resume()
        self.run_log.start(first_step)
        progress = Progress(run_log=self.run_log, first_step=first_step, num_steps=self.num_steps)
        checkpoint, saved_at = self.resume_from, first_step
        try:
            stream = self.loader.batches(first_step=first_step, end_step=self.num_steps)
            with StopSignal() as stop, closing(stream) as batches:
                while step < self.num_steps and stop.requested is None:
                    self._train_step(step, batches, progress)
                    step += 1
                    if self._is_log_due(step, first_step):
                        progress.write(step, epoch=step / self.steps_per_epoch)
                    if self._is_due(step, self.evaluation):
                        self._evaluate(step)
                    if self._is_due(step, self.checkpoints):
                        checkpoint, saved_at = self._save(step), step
                if checkpoint is None or saved_at != step:
                    checkpoint = self._save(step)
                if stop.requested is not None:
                    LOGGER.warning("%s: stopped after step %d of %d", stop.requested, step, self.num_steps)
        finally:
            progress.close()
            self.run_log.close()
        return TrainResult(step=step, finished=step >= self.num_steps, checkpoint=checkpoint, metrics=self.metrics)

    def _set_up(self) -> None:
        settings = self.settings
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        if settings.deterministic:
            make_deterministic()
        self.device = choose_device(settings.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        dtype = torch.float64 if settings.precision == "fp64" else torch.float32
        memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.network.to(self.device, dtype, memory_format=memory_format)  # type: ignore[call-overload]
        self.objective.to(self.device, dtype)
        self.dtype = dtype
        self.forward = torch.compile(self.network) if settings.compile else self.network
        named = [*self.network.named_parameters(), *self.objective.named_parameters(prefix="objective")]
        self.optimizer = self.optimizer_settings.build(named)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.guard = FiniteGuard(network=self.network, objective=self.objective, sample_name=self.loader.source.name)
        self.batch_norms = [m for m in self.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.network.train()
        self.objective.train()

    def _resume(self) -> int:
        """The number of steps already done, with everything restored."""
        if self.resume_from is None:
            return 0
        step = self.checkpoints.restore(self.resume_from, self._state())
        stored = self.checkpoints.about(self.resume_from)
        self.metrics, self.metrics_step = stored["metrics"], stored["metrics_step"]
        LOGGER.info("resuming from %s, step %d of %d", self.resume_from, step, self.num_steps)
        now, before = environment(self.device), stored["environment"]
        if changed := [f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]:
            LOGGER.warning("not bit-exact: this run goes on with %s", ", ".join(changed))
        return step

    def _train_step(self, step: int, batches: Iterator[Batch], progress: Progress) -> None:
        """One optimizer update: all micro-batches of the global batch, then the update."""
        factor = self.schedule.factor(step, num_steps=self.num_steps, steps_per_epoch=self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer_settings.lr * factor
        self.objective.head.set_margin_fraction(self._margin_fraction(step))
        for _ in range(self.loader.num_micro_batches):
            waited_from = time.perf_counter()
            batch = next(batches)
            progress.waited_s += time.perf_counter() - waited_from
            if step == 0 and batch.micro_index == 0:
                self._log_first_images(batch)
            self._micro_step(batch, progress)
        self.guard.check(before_step=step)
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.clip_grad_norm
        grad_norm = nn.utils.clip_grad_norm_(self.network.parameters(), float("inf") if limit is None else limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        progress.add_step(grad_norm=grad_norm, lr=self.optimizer_settings.lr * factor)

    def _micro_step(self, batch: Batch, progress: Progress) -> None:
        """Forward and backward of one micro-batch; its share of the global batch's mean gradient is added."""
        torch.manual_seed(torch_seed_of("forward", self.seed, batch.step, batch.micro_index))
        images = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        images = self.network.input_spec.normalise(images, dtype=self.dtype)
        if not self.settings.channels_last:
            images = images.contiguous()
        with autocast(self.settings.precision, self.device), self._running_statistics(batch.micro_index == 0):
            emb_BD = self.forward(images)
            output = self.objective(emb_BD, labels)
        self.guard.watch(batch, emb_BD, output.sample_losses_B)
        if batch.step == 0 and batch.micro_index == 0:
            expected = self.objective.head.expected_initial_loss()
            LOGGER.info("first loss %.2f; an untrained head is expected at %.2f", output.loss.item(), expected)
        self.scaler.scale(output.loss / self.loader.num_micro_batches).backward()
        progress.add_micro_batch(num_images=len(batch), logs=output.logs, target_cos_B=output.target_cos_B)

    @contextmanager
    def _running_statistics(self, updated: bool):
        """BN running statistics follow micro-batch 0 of each step, however many processes share it."""
        for module in self.batch_norms:
            module.track_running_stats = updated
        try:
            yield
        finally:
            for module in self.batch_norms:
                module.track_running_stats = True

    def _margin_fraction(self, step: int) -> float:
        ramp_steps = self.settings.margin_ramp_epochs * self.steps_per_epoch
        return min(1.0, step / ramp_steps) if ramp_steps > 0 else 1.0

    def _is_due(self, step: int, plan: EvaluationPlan | CheckpointStore) -> bool:
        """At its interval, and at the end. An epoch ends with the step that takes its last sample."""
        if step == self.num_steps:
            return True
        if plan.every_steps is not None:
            return step % plan.every_steps == 0
        if plan.every_epochs is not None:
            interval = self._steps_of(plan.every_epochs)
            return step // interval > (step - 1) // interval
        return False

    def _steps_of(self, num_epochs: float) -> Fraction:
        """Epochs in steps, exactly: 0.1 is a tenth, and an end of an epoch is never missed by rounding."""
        return Fraction(str(num_epochs)) * self.exact_steps_per_epoch

    def _is_log_due(self, step: int, first_step: int) -> bool:
        """After the first step, at the interval, and at the end, where a short rest joins the last interval."""
        rest = self.num_steps - step
        at_interval = step % self.log_every_steps == 0 and rest >= self.log_every_steps // 2
        return at_interval or step == first_step + 1 or rest == 0

    def _evaluate(self, step: int) -> None:
        self.guard.check_weights(step)
        embed = self.evaluation.embedder(self.network)
        started = time.perf_counter()
        for evaluator in self.evaluation.evaluators:
            figures = dict(evaluator.evaluate(embed))
            leading, value = next(iter(figures.items()))
            LOGGER.info("step %d  %s: %s %.4f", step, evaluator.name, leading, value)
            self.metrics |= {f"eval/{evaluator.name}/{figure}": value for figure, value in figures.items()}
        if self.evaluation.evaluators:
            self.metrics_step = step
            self.run_log.scalars(step, {**self.metrics, "eval/seconds": time.perf_counter() - started})

    def _save(self, step: int) -> Path:
        self.guard.check_weights(step)
        return self.checkpoints.save(
            self.run_log.run_dir / "checkpoints",
            step=step,
            state=self._state(),
            about={"environment": environment(self.device), **self.about},
            metrics=self.metrics,
            metrics_step=self.metrics_step,
        )

    def _log_first_images(self, batch: Batch) -> None:
        from facerec.figures.contact_sheet import image_grid

        self.run_log.image(0, "train/images", image_grid(batch.images[:64].numpy(), columns=8))

    def _state(self) -> TrainState:
        return TrainState(network=self.network, objective=self.objective, optimizer=self.optimizer, scaler=self.scaler)
