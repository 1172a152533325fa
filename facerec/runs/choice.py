"""Chooses a checkpoint of a run: the last, the best, or that of a step, as in `model=runs/a@best`."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from facerec.core.errors import CheckpointError, ConfigError
from facerec.core.metric import judging
from facerec.core.typed_text import override_of
from facerec.runs.checkpoints import best_first, checkpoint_name, newest_whole, own_metrics, step_directories
from facerec.runs.run_directory import RunDirectory

LAST, BEST = "last", "best"


@dataclass(frozen=True, kw_only=True)
class ChosenCheckpoint:
    """One checkpoint of a run.

    Attributes:
        path: its directory.
        note: says which one it is, and which one is the best.
        warnings: one for each damaged checkpoint that was skipped.
    """

    path: Path
    note: str
    warnings: list[str] = field(default_factory=list)


def split_choice(path: str) -> tuple[Path, str | None]:
    """Splits `runs/a@best` into the folder and the choice. A path that exists, or has no @, is not split."""
    location = Path(path).expanduser()
    folder, at, which = path.rpartition("@")
    if location.exists() or not at:
        return location, None
    return Path(folder).expanduser(), which


def choose_checkpoint(run: RunDirectory, which: str | None) -> ChosenCheckpoint | None:
    """Returns the chosen checkpoint; None if the run has no complete one.

    Args:
        run: the run.
        which: last, best, or step-<number>; None is last.

    Raises:
        CheckpointError: another choice; no checkpoint of that step; or none was evaluated.
    """
    steps = step_directories(run.checkpoints)
    last, warnings = newest_whole(run.checkpoints)
    if last is None:
        return None
    best_metric = (run.read_config().get("checkpoint") or {}).get("best_metric")
    ranked = best_first(steps, best_metric=best_metric)
    path = last
    if which == BEST:
        if not ranked:
            raise CheckpointError(
                f"{run.path}@best: no checkpoint has metrics of its own step; set checkpoint.every_steps to a multiple "
                "of eval.every_steps in the next training, or choose a step"
            )
        path = ranked[0]
    elif which is not None and which != LAST:
        path = _of_step(run, which, steps)
    note = f"{path}, the only checkpoint"
    if len(steps) > 1:
        note = f"{path}, {'the last' if path == last else 'an earlier one'} of {len(steps)} checkpoints"
        if ranked:
            note += f"; the best is {best_note(run, ranked[0], last, best_metric=best_metric)}"
    return ChosenCheckpoint(path=path, note=note, warnings=warnings if path == last else [])


def _of_step(run: RunDirectory, which: str, steps: list[Path]) -> Path:
    number = re.fullmatch(r"step-(\d+)", which)
    if number is not None and (path := run.checkpoints / checkpoint_name(int(number[1]))) in steps:
        return path
    there = ", ".join(f"@{_short(path)}" for path in steps)
    raise CheckpointError(f"{run.path}@{which}: no such checkpoint; expected @last, @best, or one of {there}")


def run_path(source: str) -> Path:
    """Returns the run directory that `resume_from` names: runs/a, runs/a@best, or runs/a/checkpoints/step-00000400."""
    location, _ = split_choice(source)
    is_checkpoint = location.parent.name == RunDirectory(location).checkpoints.name
    return location.parent.parent if is_checkpoint else location


def choose_source(source: str) -> tuple[RunDirectory, ChosenCheckpoint]:
    """Returns the run and the checkpoint that `resume_from` names; see `run_path`.

    Raises:
        ConfigError: there is no run with stored overrides.
        CheckpointError: there is no such checkpoint, or no complete one.
    """
    location, which = split_choice(source)
    run = RunDirectory(run_path(source))
    if not run.is_run:
        raise ConfigError(
            f"resume_from={source}: {run.path} is no run directory, so its settings are unknown; expected a run, "
            f"run@best, run@step-400, or a checkpoint inside a run. {override_of('init_from', source)} takes the "
            "weights of a model alone"
        )
    if run.path != location:
        which = _short(location)
    chosen = choose_checkpoint(run, which)
    if chosen is None:
        raise CheckpointError(f"resume_from={source}: {run.path} has no complete checkpoint; start it again instead")
    return run, chosen


def best_checkpoint(run: RunDirectory, *, best_metric: str | None) -> Path | None:
    """Returns the best checkpoint of a run; None if none was evaluated. See `quality` for the metric."""
    ranked = best_first(step_directories(run.checkpoints), best_metric=best_metric)
    return ranked[0] if ranked else None


def best_note(run: RunDirectory, best: Path, last: Path, *, best_metric: str | None) -> str:
    """Returns which checkpoint of a run is the best, by which metrics.

    Args:
        run: the run.
        best: its best checkpoint.
        last: its last checkpoint.
        best_metric: see `quality`.
    """
    judges = judging(own_metrics(best), best_metric=best_metric)
    figures = ", ".join(f"{metric.name} {metric.text()}" for metric in judges)
    if best == last:
        return f"the last checkpoint ({figures})"
    return f"{_short(best)} ({figures}): {override_of('model', f'{run.path}@best')}"


def _short(checkpoint: Path) -> str:
    """Returns the name without leading zeros, as it can be typed."""
    return re.sub(r"-0+(?=\d)", "-", checkpoint.name)
