"""The length of a run in optimizer steps, and the resuming of a run with more steps."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.arguments import build
from facerec.core.errors import ConfigError
from facerec.core.source import Source
from facerec.runs.comparison import LENGTH_KEYS
from facerec.runs.run_directory import RunDirectory
from facerec.runs.run_log import read_metrics
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


def remaining_steps(config: DictConfig, source: Source, run: RunDirectory, *, num_done: int) -> str:
    """Returns a line about the steps and the learning rate of a run that takes over the state of another one.

    Args:
        config: the resolved configuration.
        source: the training data.
        run: the other run.
        num_done: number of steps in its checkpoint.

    Raises:
        ConfigError: no step remains.
    """
    now = timetable_of(config, source)
    if now.num_steps <= num_done:
        key = LENGTH_KEYS[0 if config.trainer.num_steps is None else 1]
        raise ConfigError(
            f"{key}={OmegaConf.select(config, key)} means {_steps(now.num_steps)}, but "
            f"resume_from={config.resume_from} has already done {num_done}. Give a larger length"
        )
    result = run.read_result()
    is_finished = result is not None and result[0] == num_done
    text = f"{run.path} was finished after {_steps(num_done)}; " if is_finished else ""
    text += f"this run goes on from step {num_done} to step {now.num_steps}"
    rate = f"the learning rate is {_lr(config, now, num_done)}"
    lines = read_metrics(run.metrics) if run.metrics.exists() else []
    before = [line for line in lines if line["step"] <= num_done and line.get("train/lr") is not None]
    if before:
        rate += f"; it was {before[-1]['train/lr']:.4g} at step {before[-1]['step']} of {run.path}"
    return f"{text}; {rate}"


def _lr(config: DictConfig, times: Timetable, step: int) -> str:
    optimizer: OptimizerSettings = build(config.optimizer)
    schedule: Schedule = build(config.schedule)
    factor = schedule.factor(step, num_steps=times.num_steps, steps_per_epoch=times.steps_per_epoch)
    return f"{optimizer.lr * factor:.4g} at step {step + 1}"


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"
