"""The one training loop."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function

from facerec.core.batch import Batch
from facerec.core.device import keep_freed_memory
from facerec.core.errors import ConfigError, FacerecError
from facerec.core.log import LOGGER
from facerec.core.metric import Metric, leading, metrics_from
from facerec.core.seeding import torch_seed_of
from facerec.data.loader import BatchLoader
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet
from facerec.processes.agreement import Agreement, failing_together
from facerec.processes.group import this_process
from facerec.processes.lost_process import raise_if_lost
from facerec.processes.own_device import own_device
from facerec.processes.stop_signal import StopSignal
from facerec.runs.run_log import RunLog
from facerec.training.centre_rows import CentreRows
from facerec.training.checkpoint import CheckpointStore
from facerec.training.class_means import start_at_class_means
from facerec.training.data_parallel import DataParallel
from facerec.training.finite_guard import FiniteGuard
from facerec.training.freezing import Freezing
from facerec.training.moving_average import MovingAverage
from facerec.training.optimizer import OptimizerSettings
from facerec.training.precision import autocast, environment, gradient_scaler, make_deterministic
from facerec.training.progress import Progress
from facerec.training.sample_sheet import SampleSheet
from facerec.training.schedule import Schedule
from facerec.training.settings import EvaluationPlan, TrainerSettings
from facerec.training.skipped_samples import SkippedSamples
from facerec.training.step_parts import AGREEMENT, BACKWARD, DATA, FORWARD, HEAD, STEP, UPDATE
from facerec.training.timetable import Timetable
from facerec.training.train_state import TrainState

MANY_CENTRES = 2**26
"""Entries of the class centres (256 MB) from which freed memory goes back to the system: where it is kept, a gradient
that lands in a heap with gaps costs the centres once more."""


@dataclass(kw_only=True)
class TrainResult:
    """How a call of `Trainer.fit` ended.

    Attributes:
        step: optimizer steps done.
        finished: False when a signal stopped it before its end.
        stopped_by: the name of that signal.
        checkpoint: the one at that step.
        metrics: the newest of the benchmarks.
    """

    step: int
    finished: bool
    stopped_by: str | None
    checkpoint: Path
    metrics: list[Metric] = field(default_factory=list)


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
        freeze: what stands still at first.
        samples_every_steps: steps between two sheets of what the network sees; None: the first step alone.
        resume_from: a checkpoint of this run, or None to begin.

    With torch.distributed initialised, its processes train together: each has the same arguments but for its loader,
    which hands out its own micro-batches, and its part of the class centres. Only the first writes.

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
        freeze: Freezing | None = None,
        samples_every_steps: int | None = None,
        resume_from: Path | None = None,
    ) -> None:
        if log_every_steps < 1:
            raise ConfigError(f"logging.every_steps={log_every_steps}; expected 1 or more")
        self.freeze = freeze or Freezing()
        has_norm = any(isinstance(module, nn.BatchNorm1d) for module in network.modules())
        if loader.micro_batch_size == 1 and has_norm and not self.freeze.batch_norm:
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
        self.samples = SampleSheet(run_log=run_log, every_steps=samples_every_steps)
        self.seed = seed
        self.about = about
        self.resume_from = resume_from
        self.timetable = Timetable(
            num_samples=len(loader.source),
            global_batch_size=loader.sampler.global_batch_size,
            num_epochs=settings.num_epochs,
            num_steps=settings.num_steps,
        )
        self.metrics: list[Metric] = []
        self.metrics_step: int | None = None
        self.processes = this_process()
        self.agreement = Agreement(self.processes)
        self.skipped = SkippedSamples(loader=loader, run_log=run_log, processes=self.processes)

    def fit(self) -> TrainResult:
        """Trains to the end, or to the end of the step in which a `StopSignal` came.

        Raises:
            TrainingError: a loss or a weight is not finite.
            LostProcessError: another process has gone, or does not answer.
            CheckpointError: the checkpoint to resume from does not fit, or none can be written.
            DataError: a sample cannot be read.
        """
        with failing_together(self.processes):
            self._set_up()
        num_steps = self.timetable.num_steps
        step = first_step = self._resume()
        self.freezer.announce(first_step)
        self.run_log.start(first_step)
        progress = Progress(run_log=self.run_log, first_step=first_step, num_steps=num_steps, processes=self.processes)
        checkpoint, saved_at = self.resume_from, first_step
        stopped_by: str | None = None
        try:
            pin_memory = self.device.type == "cuda"
            stream = self.loader.batches(first_step=first_step, end_step=num_steps, pin_memory=pin_memory)
            with StopSignal(announce=self.processes.is_first) as stop, closing(stream) as batches:
                if step == 0 and self.evaluation.at_start:
                    self._evaluate(0)
                    progress.clear()
                if step == num_steps and self.metrics_step != step:  # its length was cut to the steps that it has done
                    self._evaluate(step)
                (stopping,) = self.agreement.reach(stop.requested is not None)
                while step < num_steps and not stopping:
                    with record_function(STEP):
                        self._train_step(step, batches, progress)
                    step += 1
                    if self.timetable.is_log_due(step, first_step=first_step, every_steps=self.log_every_steps):
                        progress.write(step, epoch=step / self.timetable.steps_per_epoch)
                        self.skipped.write(step)
                    if self.timetable.is_due(step, self.evaluation):
                        self._evaluate(step)
                    if self.timetable.is_due(step, self.checkpoints):
                        checkpoint, saved_at = self._save(step), step
                    with record_function(AGREEMENT):
                        with self.agreement.holding_errors():
                            self.checkpoints.check()
                        by_clock = self.processes.is_first and self.checkpoints.is_due_by_clock
                        stopping, by_clock = self.agreement.reach(stop.requested is not None, by_clock)
                    if by_clock and saved_at != step:
                        checkpoint, saved_at = self._save(step), step
                if checkpoint is None or saved_at != step:
                    checkpoint = self._save(step)
                self.checkpoints.wait()
                if stopping:
                    signals = self.processes.gather_objects(stop.requested)
                    stopped_by = next(signal for signal in signals if signal is not None)
                    LOGGER.warning("%s: stopped after step %d of %d", stopped_by, step, num_steps)
        except FacerecError:
            # A checkpoint of an earlier step is still worth having; the process that has the error may be gone already.
            with suppress(FacerecError, RuntimeError):
                self.checkpoints.wait()
            raise
        except RuntimeError as error:
            raise_if_lost(error, self.processes, when=f"after step {step}")
            raise
        finally:
            progress.close()
            self.run_log.close()
        return TrainResult(
            step=step,
            finished=step >= num_steps,
            stopped_by=stopped_by,
            checkpoint=checkpoint,
            metrics=self.metrics,
        )

    def _set_up(self) -> None:
        settings = self.settings
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        if settings.deterministic:
            make_deterministic()
        self.device = own_device(settings.device)
        if self.device.type == "cpu" and sum(p.numel() for p in self.objective.parameters()) <= MANY_CENTRES:
            keep_freed_memory()
        dtype = torch.float64 if settings.precision == "fp64" else torch.float32
        if dtype == torch.float64 and self.device.type == "mps":
            raise ConfigError("trainer.precision=fp64 on mps, which has no float64: use fp32, or trainer.device=cpu")
        memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.network.to(self.device, dtype, memory_format=memory_format)  # type: ignore[call-overload]
        self.objective.to(self.device, dtype)
        self.dtype = dtype
        if settings.sync_batch_norm and self.processes.world_size > 1:
            if self.device.type != "cuda":
                raise ConfigError(
                    f"trainer.sync_batch_norm=true on {self.device.type}: torch synchronises batch normalisation on "
                    "GPUs only; leave it false"
                )
            nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.forward = DataParallel(
            torch.compile(self.network) if settings.compile else self.network,  # type: ignore[arg-type]
            processes=self.processes,
            deterministic=settings.deterministic,
            compression=settings.compress_gradients,
        )
        self.centre_rows = CentreRows(
            self.objective.head,
            optimizer=self.optimizer_settings,
            num_micro_batches=len(self.loader.own_micro_batches),
            precision=settings.precision,
            freeze=self.freeze,
        )
        named = [*self.network.named_parameters(), *self.objective.named_parameters(prefix="objective")]
        self.optimizer = self.optimizer_settings.build(named)
        self.freezer = self.freeze.build(named, network=self.network, steps_of=self.timetable.steps_of)
        self.average = MovingAverage(self.network, decay=settings.ema_decay) if settings.ema_decay else None
        self.scaler = gradient_scaler(settings.precision, self.device, self.processes)
        self.guard = FiniteGuard(network=self.network, objective=self.objective, sample_name=self.loader.source.name)
        self.batch_norms = [m for m in self.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.network.train()
        self.objective.train()

    def _resume(self) -> int:
        """The number of steps already done, with everything restored."""
        if self.resume_from is None:
            self._place_class_centres()
            return 0
        stored = self.checkpoints.restore(self.resume_from, self._state())
        step = stored["step"]
        self.metrics = metrics_from(stored["metrics"], stored.get("metric_details"))
        self.metrics_step = stored["metrics_step"]
        LOGGER.info("resuming from %s, step %d of %d", self.resume_from, step, self.timetable.num_steps)
        now, before = environment(self.device, self.processes), stored["environment"]
        if changed := [f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]:
            LOGGER.warning("not bit-exact: this run goes on with %s", ", ".join(changed))
        return step

    def _place_class_centres(self) -> None:
        """Where the head asks for it, at the means of their classes; else they stay as they were drawn."""
        head = self.objective.head
        if head is not None and head.init == "class_mean":
            self.loader.replaced += start_at_class_means(
                head.centres,
                embed=self.evaluation.embedder(self.network),
                source=self.loader.source,
                batch_size=self.loader.micro_batch_size,
                images_per_identity=self.settings.class_mean_images,
                num_threads=max(1, self.loader.num_workers),
                on_corrupt=self.loader.on_corrupt,
            )

    def _train_step(self, step: int, batches: Iterator[Batch], progress: Progress) -> None:
        """One optimizer update: all micro-batches of the global batch, then the update."""
        self.freezer.start_step(step)
        self.forward.start_step()
        times = self.timetable
        factor = self.schedule.factor(step, num_steps=times.num_steps, steps_per_epoch=times.steps_per_epoch)
        lr = self.optimizer_settings.lr * factor
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        labels = torch.from_numpy(self.loader.labels_of_step(step)).to(self.device)
        self.objective.start_step(
            step,
            margin_fraction=self._margin_fraction(step),
            labels_of_step=labels,
            lr=lr * self.centre_rows.lr_factor,
        )
        for micro_index in self.loader.own_micro_batches:
            waited_from = time.perf_counter()
            with record_function(DATA):
                batch = self._next_batch(batches, step=step, micro_index=micro_index)
            progress.waited_s += time.perf_counter() - waited_from
            self._micro_step(batch, progress)
        with record_function(UPDATE):
            grad_norm = self._update(step)
        progress.add_step(grad_norm=grad_norm, lr=lr)

    def _update(self, step: int) -> torch.Tensor:
        """The optimizer's step, and all that is updated once per step. Returns the norm of the network's gradient."""
        with self.agreement.holding_errors():
            self.guard.check(before_step=step)
        self._sum_objective_gradients()
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.clip_grad_norm
        grad_norm = nn.utils.clip_grad_norm_(self.network.parameters(), float("inf") if limit is None else limit)
        self.scaler.step(self.optimizer)
        grad_scale = self.scaler.get_scale()
        self.scaler.update()
        skipped = self.scaler.get_scale() < grad_scale
        self.objective.end_step(grad_scale=grad_scale, skipped=skipped)
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None and not skipped:
            self.average.update(self.network, step=step)
        return grad_norm

    def _micro_step(self, batch: Batch, progress: Progress) -> None:
        """Forward and backward of one micro-batch; its share of the global batch's mean gradient is added."""
        torch.manual_seed(torch_seed_of("forward", self.seed, batch.step, batch.micro_index))
        arrived = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        augmented = self.loader.finish(batch, arrived)
        images = self.network.input_spec.normalise(augmented, dtype=self.dtype)
        self.samples.show(batch, images, input_spec=self.network.input_spec)
        if not self.settings.channels_last:
            images = images.contiguous()
        own = self.loader.own_micro_batches
        updates_statistics = batch.micro_index == (own[0] if self.settings.sync_batch_norm else 0)
        with self.forward.accumulating(is_last=batch.micro_index == own[-1]):
            with autocast(self.settings.precision, self.device), self._running_statistics(updates_statistics):
                with record_function(FORWARD):
                    emb_BD = self.forward(images)
                with record_function(HEAD):
                    output = self.objective(emb_BD, labels, batch.images if augmented is arrived else augmented)
            with self.agreement.holding_errors():
                self.guard.watch(batch, emb_BD, output.sample_losses_B)
            with record_function(BACKWARD):
                self.scaler.scale(output.loss / self.loader.num_micro_batches).backward()
        if batch.step == 0 and batch.micro_index == 0:
            expected = self.objective.expected_initial_loss()
            if expected is not None:
                softmax = output.logs.get("softmax", output.loss).item()
                LOGGER.info("first loss %.2f; an untrained head is expected at %.2f", softmax, expected)
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

    def _next_batch(self, batches: Iterator[Batch], *, step: int, micro_index: int) -> Batch:
        """The own micro-batch; black images in its place from the first on that cannot be read."""
        if self.agreement.error is None:
            with self.agreement.holding_errors():
                return next(batches)
        size = self.loader.micro_batch_size
        spec = self.network.input_spec
        own = slice(micro_index * size, (micro_index + 1) * size)
        return Batch(
            images=torch.zeros(size, spec.height_px, spec.width_px, 3, dtype=torch.uint8),
            labels=torch.from_numpy(self.loader.labels_of_step(step)[own]),
            indices=torch.zeros(size, dtype=torch.int64),
            step=step,
            micro_index=micro_index,
        )

    def _sum_objective_gradients(self) -> None:
        """Over the processes, for all that each of them has; the shards of the class centres have their sums."""
        if self.processes.world_size == 1:
            return
        head = self.objective.head
        own_alone = set(head.centres.parameters()) if head is not None and head.is_sharded else set()
        for parameter in self.objective.parameters():
            if parameter.grad is not None and parameter not in own_alone:
                self.processes.sum_(parameter.grad)

    def _check_weights(self, step: int) -> None:
        with self.agreement.holding_errors():
            self.guard.check_weights(step)
        self.agreement.reach()

    def _margin_fraction(self, step: int) -> float:
        ramp_steps = self.settings.margin_ramp_epochs * self.timetable.steps_per_epoch
        return min(1.0, step / ramp_steps) if ramp_steps > 0 else 1.0

    def _evaluate(self, step: int) -> None:
        self._check_weights(step)
        network = self.network if self.average is None else self.average.network
        self.processes.copy_from_first_(network.buffers())  # of the one that has micro-batch 0
        embed = self.evaluation.embedder(network)
        started = time.perf_counter()
        measured: list[Metric] = []
        for evaluator in self.evaluation.evaluators:
            metrics = list(evaluator.evaluate(embed))
            for metric in leading(metrics):
                LOGGER.info("step %d  %s: %s %s", step, evaluator.name, metric.name, metric.text())
            measured += [metric.within(f"eval/{evaluator.name}") for metric in metrics]
        if self.evaluation.evaluators:
            self.checkpoints.check_metrics(measured)
            self.metrics, self.metrics_step = measured, step
            self.run_log.metrics(step, measured, seconds=time.perf_counter() - started)

    def _save(self, step: int) -> Path:
        self._check_weights(step)
        self.skipped.write(step)
        self.processes.copy_from_first_(self.network.buffers())  # its running statistics are those that count
        return self.checkpoints.save(
            self.run_log.files.checkpoints,
            step=step,
            state=self._state(),
            about={"environment": environment(self.device, self.processes), **self.about},
            metrics=self.metrics,
            metrics_step=self.metrics_step,
        )

    def _state(self) -> TrainState:
        return TrainState(
            network=self.network,
            objective=self.objective,
            optimizer=self.optimizer,
            scaler=self.scaler,
            average=self.average,
            frozen=self.freezer.parameters,
            processes=self.processes,
        )
