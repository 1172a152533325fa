"""Checkpoints: complete or absent, restored exactly, and pruned to the newest and the best."""

import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from facerec.core.errors import CheckpointError, ConfigError, ModelError
from facerec.core.log import LOGGER
from facerec.core.metric import COSINE, Metric, details_of, quality, values_of
from facerec.core.typed_text import typed
from facerec.networks.tensor_files import refuse_not_finite
from facerec.networks.weights import CARD_FILE, MODEL_FILE
from facerec.processes.agreement import failing_together
from facerec.processes.group import Processes
from facerec.runs.checkpoints import best_first, checkpoint_name, newest_whole, step_directories, step_of
from facerec.runs.manifest import read_manifest
from facerec.runs.whole_directory import whole_directory
from facerec.training.state_files import read_tensors, write_tensors
from facerec.training.train_state import TrainState, is_of_classes

STATE = "train_state"
VALUES_FILE = "state.json"


class CheckpointStore:
    """The `checkpoints/` folder of a run: `step-<number>/` with the model, the training state and a manifest.

    Args:
        every_steps, every_epochs: how often to save, at most one of the two; a run always saves at its end.
        every_minutes: how often to save by the clock, in addition.
        keep_last: how many of the newest to keep, at least 1.
        keep_best: how many of the best to keep in addition, by `best_metric`; only checkpoints of steps with an
            evaluation are compared.
        best_metric: the name of a metric, such as eval/lfw/accuracy; None: see `quality`.
        in_background: training goes on while a copy of the state, in the memory of the CPU, is written.

    Raises:
        ConfigError: both intervals are set, or a number is out of range.
    """

    def __init__(
        self,
        *,
        every_steps: int | None = None,
        every_epochs: float | None = None,
        every_minutes: float | None = None,
        keep_last: int = 2,
        keep_best: int = 1,
        best_metric: str | None = None,
        in_background: bool = True,
    ) -> None:
        check_interval("checkpoint", every_steps=every_steps, every_epochs=every_epochs)
        if every_minutes is not None and not every_minutes > 0:
            raise ConfigError(f"checkpoint.every_minutes={every_minutes}; expected a positive number, or null for none")
        if keep_last < 1 or keep_best < 0:
            raise ConfigError(f"checkpoint.keep_last={keep_last}, keep_best={keep_best}; expected >= 1 and >= 0")
        self.every_steps = every_steps
        self.every_epochs = every_epochs
        self.every_minutes = every_minutes
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.best_metric = best_metric
        self.in_background = in_background
        self._writing: Future[None] | None = None
        self._writers: Processes | None = None
        self._saved_at_s = time.monotonic()

    @property
    def is_due_by_clock(self) -> bool:
        """True if `every_minutes` have passed since the last checkpoint, or since the start."""
        return self.every_minutes is not None and time.monotonic() - self._saved_at_s >= 60 * self.every_minutes

    def save(
        self,
        directory: Path,
        *,
        step: int,
        state: TrainState,
        about: Mapping[str, Any],
        metrics: Sequence[Metric],
        metrics_step: int | None,
    ) -> Path:
        """Saves the state after `step` optimizer steps under `directory`, then prunes. Returns the final path.

        All processes must call it; the first one saves the model. Only one checkpoint at a time is written.

        Args:
            directory: the run's `checkpoints/` folder.
            step: number of optimizer steps done.
            state: what to save.
            about: plain values for model.json and the manifest: trained_on, environment.
            metrics: the newest metrics of the benchmarks.
            metrics_step: the step of this evaluation.

        Raises:
            CheckpointError: the disk is full or read-only, at this checkpoint or at the previous one, which was written
                in the background; earlier ones are unchanged.
        """
        self.wait()
        self._saved_at_s = time.monotonic()
        path = directory / checkpoint_name(step)
        stored = {
            "step": step,
            "metrics": values_of(metrics),
            "metric_details": details_of(metrics),
            "metrics_step": metrics_step,
            **about,
        }
        fresh = metrics if metrics_step == step else ()
        thresholds = {metric.name: metric.value for metric in fresh if metric.unit == COSINE}
        model = state.model.state_dict() if state.processes.is_first else {}
        tensors = state.tensors()
        content = _Content(
            model={key: _on_cpu(value, copied=self.in_background) for key, value in model.items()},
            card={**state.network.card(), **about, "step": step, "thresholds": thresholds},
            tensors={key: _on_cpu(value, copied=self.in_background) for key, value in tensors.items()},
            shard_lengths=state.shard_lengths(tensors),
            values={**state.values(), "step": step},
        )
        if not self.in_background:
            self._write(path, content, stored, state.processes)
            return path
        if self._writers is None:
            self._writers = state.processes.for_another_thread()
        self._writing = Future()
        arguments = (self._writing, path, content, stored, self._writers)
        Thread(target=self._write_and_tell, args=arguments, daemon=True).start()
        return path

    def check_metrics(self, metrics: Sequence[Metric]) -> None:
        """Raises ConfigError if `best_metric` is not one of the benchmarks' metrics."""
        quality(metrics, best_metric=self.best_metric)

    def wait(self) -> None:
        """Waits until nothing is written in the background. Raises CheckpointError if writing has failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def check(self) -> None:
        """Raises CheckpointError if writing in the background has failed, without waiting for it."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def _write_and_tell(self, done: "Future[None]", *arguments: Any) -> None:
        try:
            self._write(*arguments)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _write(self, path: Path, content: "_Content", stored: dict[str, Any], processes: Processes) -> None:
        with failing_together(processes):
            if processes.is_first:
                _set_aside(path)
        with whole_directory(path, stored, needed_bytes=content.num_bytes(), processes=processes) as partial:
            write_tensors(partial / STATE, content.tensors, shard_lengths=content.shard_lengths, processes=processes)
            if processes.is_first:
                _write_model(content.model, partial / MODEL_FILE)
                (partial / CARD_FILE).write_text(json.dumps(content.card, indent=1))
                (partial / STATE / VALUES_FILE).write_text(json.dumps(content.values))
        if processes.is_first:
            self._prune(path.parent, stored["step"])

    def newest(self, directory: Path) -> Path | None:
        """Returns the newest complete checkpoint; warns of each damaged one that it skips."""
        path, warnings = newest_whole(directory)
        for warning in warnings:
            LOGGER.warning(warning)
        return path

    def restore(self, path: Path, state: TrainState) -> dict[str, Any]:
        """Copies a checkpoint's tensors into the live objects. All processes must call it.

        Returns:
            The manifest without its checksums: step, metrics, metric_details, metrics_step, environment,
            trained_on.

        Raises:
            CheckpointError: the checkpoint is damaged, has a weight that is not finite, or belongs to a network or
                optimizer of another shape.
        """
        manifest = _checked_manifest(path, state.processes)
        tensors = read_tensors(path / STATE, is_sharded=is_of_classes, processes=state.holders)
        values = json.loads((path / STATE / VALUES_FILE).read_text())
        model = load_file(path / MODEL_FILE)
        with failing_together(state.processes):
            _refuse_not_finite(path, model, tensors)
        try:
            state.restore(model, tensors, values)
        except (RuntimeError, KeyError) as error:
            reason = error.args[0] if error.args else error  # the text of a KeyError has quotes
            raise CheckpointError(
                f"{path} does not fit this run: {reason}. To start from its weights alone: "
                f"{typed('init_from', path)} with another run_dir"
            ) from None
        return manifest

    def _prune(self, directory: Path, step: int) -> None:
        """Keeps the newest and the best of the checkpoints up to `step`; later ones are damaged, and do not count."""
        paths = [path for path in step_directories(directory) if step_of(path) <= step]
        best = best_first(paths, best_metric=self.best_metric)
        keep = {*paths[-self.keep_last :], *best[: self.keep_best]}
        for path in paths:
            if path not in keep:
                with suppress(OSError):  # renamed first, so that a kill leaves no incomplete one under its name
                    path.rename(_new_name(path, "partial"))
        for path in directory.glob("step-*.partial-*"):  # these, and the remains of killed runs
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Content:
    """The content of a checkpoint, copied so that training does not change it.

    Attributes:
        model: for the model file.
        card: for model.json.
        tensors, shard_lengths: see `write_tensors`.
        values: the training state's values that are not tensors.
    """

    model: dict[str, torch.Tensor]
    card: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    shard_lengths: dict[str, int]
    values: dict[str, Any]

    def num_bytes(self) -> int:
        """Returns the approximate size of this process's files."""
        return sum(value.numel() * value.element_size() for value in [*self.model.values(), *self.tensors.values()])


def check_interval(section: str, *, every_steps: int | None, every_epochs: float | None) -> None:
    """Refuses two intervals together, and invalid numbers.

    Raises:
        ConfigError: names the keys.
    """
    if every_steps is not None and every_epochs is not None:
        raise ConfigError(
            f"{section}.every_steps={every_steps} and {section}.every_epochs={every_epochs} are both set; set one of "
            "them to null"
        )
    for name, value in (("every_steps", every_steps), ("every_epochs", every_epochs)):
        if value is not None and not value > 0:
            raise ConfigError(f"{section}.{name}={value}; expected a positive number, or null for none")


def _checked_manifest(path: Path, processes: Processes) -> dict[str, Any]:
    """Reads a checkpoint with all its checksums, by the first process, for all."""
    with failing_together(processes):
        manifest = read_manifest(path) if processes.is_first else {}
    return processes.gather_objects(manifest)[0]


def _refuse_not_finite(path: Path, model: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises CheckpointError if a weight is NaN or infinite, which training would blame on its learning rate."""
    weights = {**model, **{key: value for key, value in tensors.items() if not key.startswith("optimizer.")}}
    try:
        refuse_not_finite(weights, where=path)
    except ModelError as error:
        raise CheckpointError(f"{error}. To resume from an earlier one, remove or rename {path}") from None


def _set_aside(path: Path) -> None:
    """Renames a damaged checkpoint that was skipped on resuming, to make room for a new one."""
    if not path.exists():
        return
    aside = _new_name(path, "set-aside")
    try:
        path.rename(aside)
    except OSError as error:
        raise CheckpointError(f"{path} could not be renamed to make room for a new checkpoint: {error}") from None
    LOGGER.warning("%s was skipped, and is now called %s", path, aside.name)


def _new_name(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}-{uuid.uuid4().hex[:8]}")


def _on_cpu(tensor: torch.Tensor, *, copied: bool) -> torch.Tensor:
    """Returns a contiguous tensor on the CPU; with `copied`, never the live tensor itself."""
    plain = tensor.detach().cpu().contiguous()
    return plain.clone() if copied and plain.data_ptr() == tensor.data_ptr() else plain


def _write_model(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:  # its error for a full disk
        raise OSError(str(error)) from None
