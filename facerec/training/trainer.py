"""The one training loop."""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.profiler import record_function

from facerec.core.batch import Batch
from facerec.core.errors import ConfigError, FacerecError
from facerec.core.log import LOGGER
from facerec.core.metric import Metric, metrics_from
from facerec.data.loader import BatchLoader
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet
from facerec.processes.agreement import Agreement, failing_together
from facerec.processes.group import this_process
from facerec.processes.lost_process import raise_if_lost
from facerec.processes.stop_signal import StopSignal
from facerec.runs.run_log import RunLog
from facerec.training.assembly import assemble
from facerec.training.checkpoint import CheckpointStore
from facerec.training.class_means import place_class_centres
from facerec.training.freezing import Freezing
from facerec.training.loss_checks import FirstLoss, LossAfterWarmUp, end_of_warmup
from facerec.training.micro_batches import micro_batches
from facerec.training.observers import Observer
from facerec.training.optimizer import OptimizerSettings, check_optimizer
from facerec.training.precision import environment, warn_of_changes
from facerec.training.progress import Progress
from facerec.training.sample_sheet import SampleSheet
from facerec.training.schedule import Schedule, check_schedule
from facerec.training.settings import EvaluationPlan, TrainerSettings
from facerec.training.skipped_samples import SkippedSamples
from facerec.training.step import AGREEMENT, STEP, OptimizerStep
from facerec.training.timetable import Timetable
from facerec.training.train_state import TrainState


@dataclass(kw_only=True)
class TrainResult:
    """The result of `Trainer.fit`.

    Attributes:
        step: number of optimizer steps done.
        finished: False if a signal stopped the training before its end.
        stopped_by: the name of that signal, or None.
        checkpoint: the checkpoint of that step.
        metrics: the newest metrics of the benchmarks.
    """

    step: int
    finished: bool
    stopped_by: str | None
    checkpoint: Path
    metrics: list[Metric] = field(default_factory=list)


class Trainer:
    """Trains a network with an objective, from the current state of the run directory.

    Args:
        network, objective: the modules to train, on the CPU.
        loader: gives the micro-batches of any step.
        optimizer, schedule: the learning rate of a step is optimizer.lr times schedule.factor.
        settings: see `TrainerSettings`.
        run_log: receives the figures; its folder, the checkpoints.
        evaluation: see `EvaluationPlan`; None: no benchmark.
        checkpoints: see `CheckpointStore`; None: after every epoch and at the end.
        log_every_steps: steps between two lines of figures.
        seed: seed of dropout.
        about: plain values about the data and the code, stored with every checkpoint.
        freeze: the parts that are frozen at first.
        samples_every_steps: steps between two sheets of crops as the network sees them; None: the first step only.
        resume_from: a checkpoint of this run, or of another one whose whole state this run takes over; None to begin.

    With torch.distributed initialised, its processes train together. They have the same arguments, except for the
    loader, which gives each its own micro-batches, and the shard of the class centres. Only the first process writes.

    Raises:
        ConfigError: log_every_steps is not positive, or batch normalisation would see a micro-batch of one sample; or
            the optimizer or the schedule, of the user's own class, lacks something of its protocol.
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
        run_log: RunLog,
        evaluation: EvaluationPlan | None = None,
        checkpoints: CheckpointStore | None = None,
        log_every_steps: int = 20,
        seed: int = 1,
        about: dict[str, Any] | None = None,
        freeze: Freezing | None = None,
        samples_every_steps: int | None = None,
        resume_from: Path | None = None,
    ) -> None:
        check_optimizer(optimizer)
        if log_every_steps < 1:
            raise ConfigError(f"logging.every_steps={log_every_steps}; expected 1 or more")
        self.freeze = freeze or Freezing()
        self.freeze.check_micro_batch(network, num_samples=loader.micro_batch_size)
        self.network = network
        self.objective = objective
        self.loader = loader
        self.optimizer_settings = optimizer
        self.schedule = schedule
        self.settings = settings
        self.evaluation = evaluation or EvaluationPlan()
        self.checkpoints = checkpoints or CheckpointStore(every_epochs=1)
        self.run_log = run_log
        self.log_every_steps = log_every_steps
        self.seed = seed
        self.about = about or {}
        self.timetable = Timetable(
            num_samples=len(loader.source),
            global_batch_size=loader.sampler.global_batch_size,
            num_epochs=settings.num_epochs,
            num_steps=settings.num_steps,
        )
        check_schedule(schedule, num_steps=self.timetable.num_steps, steps_per_epoch=self.timetable.steps_per_epoch)
        self.processes = this_process()
        self.agreement = Agreement(self.processes)
        self.progress = Progress(run_log=run_log, timetable=self.timetable, processes=self.processes)
        self.observers: list[Observer] = [
            SampleSheet(run_log=run_log, every_steps=samples_every_steps, input_spec=network.input_spec),
            FirstLoss(objective),
            LossAfterWarmUp(
                objective=objective,
                warmup_steps=end_of_warmup(schedule, self.timetable, ramp_epochs=settings.margin_ramp_epochs),
                num_steps=self.timetable.num_steps,
                processes=self.processes,
            ),
            self.progress,
            SkippedSamples(loader=loader, run_log=run_log, processes=self.processes),
        ]
        self.step = self.first_step = 0
        self.metrics: list[Metric] = []
        self.metrics_step: int | None = None
        self.checkpoint = resume_from
        self.checkpoint_step: int | None = None

    @cached_property
    def optimizer_step(self) -> OptimizerStep:
        """The step that `fit` repeats. Its first use builds it, and moves network and objective to the device."""
        return assemble(
            network=self.network,
            objective=self.objective,
            loader=self.loader,
            optimizer=self.optimizer_settings,
            settings=self.settings,
            freeze=self.freeze,
            timetable=self.timetable,
            agreement=self.agreement,
            observers=self.observers,
            seed=self.seed,
        )

    @property
    def state(self) -> TrainState:
        """The live objects that checkpoints store."""
        return self.optimizer_step.state

    def fit(self) -> TrainResult:
        """Trains to the end, or to the end of the step in which a `StopSignal` arrived.

        Raises:
            TrainingError: a loss or a weight is not finite.
            LostProcessError: another process has died, or does not answer.
            CheckpointError: the checkpoint to resume from does not fit, or no checkpoint can be written.
            DataError: a sample cannot be read.
        """
        with failing_together(self.processes):
            freezer = self.optimizer_step.freezer
        self._resume()
        freezer.announce(self.step)
        self.run_log.start(self.step)
        try:
            for observer in self.optimizer_step.observers:
                observer.start(self.step)
            return self._train()
        except FacerecError:
            # An earlier checkpoint is still useful; the process with the error may have died already.
            with suppress(FacerecError, RuntimeError):
                self.checkpoints.wait()
            raise
        except RuntimeError as error:
            raise_if_lost(error, self.processes, when=f"after step {self.step}")
            raise
        finally:
            for observer in self.optimizer_step.observers:
                observer.close()
            self.run_log.close()

    def _resume(self) -> None:
        """Restores everything from the checkpoint; without one, sets the class centres if head.init asks for it."""
        if self.checkpoint is None:
            place_class_centres(
                self.objective.head,
                embed=self.evaluation.embedder(self.network),
                loader=self.loader,
                images_per_identity=self.settings.class_mean_images,
            )
            return
        stored = self.checkpoints.restore(self.checkpoint, self.state)
        self.step = self.first_step = stored["step"]
        if self.checkpoint.parent.resolve() == self.run_log.files.checkpoints.resolve():
            self.checkpoint_step = self.step  # else this run has no checkpoint yet
        self.metrics = metrics_from(stored["metrics"], stored.get("metric_details"))
        self.metrics_step = stored["metrics_step"]
        LOGGER.info("resuming from %s, step %d of %d", self.checkpoint, self.step, self.timetable.num_steps)
        warn_of_changes(stored["environment"], environment(self.optimizer_step.device, self.processes))

    def _train(self) -> TrainResult:
        """Runs all remaining steps, with the evaluations and checkpoints before, between and after them."""
        num_steps, stopped_by = self.timetable.num_steps, None
        pin_memory = self.optimizer_step.device.type == "cuda"
        stream = self.loader.batches(first_step=self.step, end_step=num_steps, pin_memory=pin_memory)
        with StopSignal(announce=self.processes.is_first) as stop, closing(stream) as batches:
            if self.step == 0 and self.evaluation.at_start:
                self._evaluate()
                self.progress.clear()
            if self.step == num_steps and self.metrics_step != self.step:  # a new, shorter length is reached already
                self._evaluate()
            (stopping,) = self.agreement.reach(stop.requested is not None)
            while self.step < num_steps and not stopping:
                with record_function(STEP):
                    self._take_step(batches)
                stopping = self._follow_up(stop)
            if self.checkpoint_step != self.step:
                self._save()
            self.checkpoints.wait()
            if stopping:
                signals = self.processes.gather_objects(stop.requested)
                stopped_by = next(signal for signal in signals if signal is not None)
                LOGGER.warning("%s: stopped after step %d of %d", stopped_by, self.step, num_steps)
        assert self.checkpoint is not None
        return TrainResult(
            step=self.step,
            finished=self.step >= num_steps,
            stopped_by=stopped_by,
            checkpoint=self.checkpoint,
            metrics=self.metrics,
        )

    def _take_step(self, batches: Iterator[Batch]) -> None:
        """Runs one optimizer update, with the learning rate and the margin of its step."""
        step, loader, times = self.step, self.loader, self.timetable
        factor = self.schedule.factor(step, num_steps=times.num_steps, steps_per_epoch=times.steps_per_epoch)
        self.optimizer_step.run(
            step,
            micro_batches(batches, step=step, loader=loader, agreement=self.agreement, spec=self.network.input_spec),
            labels_of_step=torch.from_numpy(loader.labels_of_step(step)),
            lr=self.optimizer_settings.lr * factor,
            margin_fraction=self.settings.margin_fraction(step, steps_per_epoch=times.steps_per_epoch),
        )
        self.step += 1

    def _follow_up(self, stop: StopSignal) -> bool:
        """Logs, evaluates and saves if it is due after a step. Returns True if any process has received a signal."""
        step, times = self.step, self.timetable
        if times.is_log_due(step, first_step=self.first_step, every_steps=self.log_every_steps):
            for observer in self.optimizer_step.observers:
                observer.log(step)
        if times.is_due(step, self.evaluation):
            self._evaluate()
        if times.is_due(step, self.checkpoints):
            self._save()
        with record_function(AGREEMENT):
            with self.agreement.holding_errors():
                self.checkpoints.check()
            by_clock = self.processes.is_first and self.checkpoints.is_due_by_clock
            stopping, by_clock = self.agreement.reach(stop.requested is not None, by_clock)
        if by_clock and self.checkpoint_step != step:
            self._save()
        return stopping

    def _evaluate(self) -> None:
        self.optimizer_step.check_weights(self.step)
        network = self.state.model
        self.processes.copy_from_first_(network.buffers())  # the first process has micro-batch 0
        measured, seconds = self.evaluation.measure(network, step=self.step)
        if self.evaluation.evaluators:
            self.checkpoints.check_metrics(measured)
            self.metrics, self.metrics_step = measured, self.step
            self.run_log.metrics(self.step, measured, seconds=seconds)

    def _save(self) -> None:
        self.optimizer_step.check_weights(self.step)
        for observer in self.optimizer_step.observers:
            observer.before_save(self.step)
        self.processes.copy_from_first_(self.network.buffers())  # its running statistics are those that count
        self.checkpoint = self.checkpoints.save(
            self.run_log.files.checkpoints,
            step=self.step,
            state=self.state,
            about={"environment": environment(self.optimizer_step.device, self.processes), **self.about},
            metrics=self.metrics,
            metrics_step=self.metrics_step,
        )
        self.checkpoint_step = self.step
