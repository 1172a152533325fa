"""The length of a run in optimizer steps, and the resuming of a run with more steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import build
from facerec.core.errors import ConfigError
from facerec.core.source import Source
from facerec.core.typed_text import override_of
from facerec.runs.comparison import LENGTH_KEYS, split_override
from facerec.training.optimizer import OptimizerSettings
from facerec.training.schedule import Schedule
from facerec.training.settings import TrainerSettings
from facerec.training.timetable import Timetable


def timetable_of(config: DictConfig, source: Source, *, trainer: Mapping[str, Any] | None = None) -> Timetable:
    """Returns the timetable of a run.

    Args:
        config: the resolved configuration.
        source: the training data.
        trainer: another section `trainer` that gives the length.
    """
    keys = [key.removeprefix("trainer.") for key in LENGTH_KEYS]
    length = {key: trainer[key] for key in keys} if trainer is not None else {}
    settings: TrainerSettings = build(OmegaConf.merge(config.trainer, length))  # type: ignore[arg-type]
    return Timetable(
        num_samples=len(source),
        global_batch_size=config.data.global_batch_size,
        num_epochs=settings.num_epochs,
        num_steps=settings.num_steps,
    )


def changed_length(
    config: DictConfig, source: Source, *, stored_trainer: Mapping[str, Any], num_done: int
) -> str | None:
    """Returns a line about a changed length, with the learning rates; None if the length is unchanged.

    Args:
        config: the resolved configuration.
        source: the training data.
        stored_trainer: the section `trainer` that the run was trained with.
        num_done: number of steps in the checkpoint to resume from.

    Raises:
        ConfigError: the new length is shorter than the number of steps done.
    """
    before, now = timetable_of(config, source, trainer=stored_trainer), timetable_of(config, source)
    if now.num_steps < num_done:
        key = LENGTH_KEYS[0 if config.trainer.num_steps is None else 1]
        raise ConfigError(
            f"{key}={OmegaConf.select(config, key)} means {_steps(now.num_steps)}, but the run has already done "
            f"{num_done}. Give at least that length, or train into another run_dir=..."
        )
    if now.num_steps == before.num_steps:
        return None
    old_step = min(num_done, before.num_steps - 1)  # for a finished run, the last one
    return (
        f"the length changes: {before.num_steps} -> {_steps(now.num_steps)}. The schedule follows the new length: "
        f"the learning rate is {_lr(config, now, min(num_done, now.num_steps - 1))}; with the old length it was "
        f"{_lr(config, before, old_step)}"
    )


def command_for_more_steps(overrides: Sequence[str], run_dir: Path, *, num_steps: int) -> str:
    """Returns the command that resumes a run directory up to `num_steps` steps."""
    kept = [override for override in overrides if split_override(override)[0] not in (*LENGTH_KEYS, "run_dir")]
    length = [override_of("trainer.num_epochs", None), override_of("trainer.num_steps", num_steps)]
    return command("train", *kept, override_of("run_dir", run_dir), *length)


def _lr(config: DictConfig, times: Timetable, step: int) -> str:
    optimizer: OptimizerSettings = build(config.optimizer)
    schedule: Schedule = build(config.schedule)
    factor = schedule.factor(step, num_steps=times.num_steps, steps_per_epoch=times.steps_per_epoch)
    return f"{optimizer.lr * factor:.4g} at step {step + 1}"


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"
