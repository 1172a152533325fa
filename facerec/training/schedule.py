"""Learning-rate schedules: the factor on the configured rate, as a function of the step alone."""

import math
from collections.abc import Sequence
from typing import Protocol

from facerec.core.errors import ConfigError
from facerec.core.part_check import check_part, is_of_facerec, part_error


class Schedule(Protocol):
    """The interface of a schedule for the trainer."""

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: float) -> float:
        """Returns the factor on the learning rate at a step in 0 .. num_steps - 1."""
        ...


def check_schedule(schedule: Schedule, *, num_steps: int = 100, steps_per_epoch: float = 10.0) -> None:
    """Refuses a schedule of the user's own class without `factor`, or whose factors are no numbers from 0 up.

    The first and the last step of a training of this length are tried.

    Raises:
        ConfigError: names the class and everything that is wrong.
    """
    check_part(schedule, Schedule, key="schedule", kind="schedule")
    if is_of_facerec(schedule):
        return
    for step in (0, num_steps - 1):
        called = f"factor({step}, num_steps={num_steps}, steps_per_epoch={steps_per_epoch:g})"
        try:
            factor = schedule.factor(step, num_steps=num_steps, steps_per_epoch=steps_per_epoch)
        except Exception as error:  # whatever the user's code raises
            fault = f"{called} fails ({type(error).__name__}: {error})"
            raise part_error(schedule, [fault], key="schedule", kind="schedule") from None
        if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
            fault = f"{called} returns {factor!r}; expected a number, 0 or more"
            raise part_error(schedule, [fault], key="schedule", kind="schedule")


class WarmUp:
    """A linear warm-up from 0 before the decay; its first step already has a rate above 0.

    A subclass defines `decay`.

    Args:
        warmup_steps, warmup_epochs: length of the linear warm-up, at most one of the two.
    """

    def __init__(self, *, warmup_steps: int | None = None, warmup_epochs: float | None = None) -> None:
        if warmup_steps is not None and warmup_epochs is not None:
            raise ConfigError("schedule.warmup_steps and schedule.warmup_epochs are both set; set one of them")
        _check_not_negative("warmup_steps", warmup_steps or 0)
        _check_not_negative("warmup_epochs", warmup_epochs or 0)
        self.warmup_steps = warmup_steps
        self.warmup_epochs = warmup_epochs

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: float) -> float:
        """Returns the factor on the learning rate at a step in 0 .. num_steps - 1."""
        num_warmup = self.warmup_steps if self.warmup_steps is not None else (self.warmup_epochs or 0) * steps_per_epoch
        if step < num_warmup:
            return (step + 1) / (num_warmup + 1)
        progress = (step - num_warmup) / max(num_steps - num_warmup, 1)
        return self.decay(progress, step=step, steps_per_epoch=steps_per_epoch)

    def decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        """Returns the factor after the warm-up; `progress` rises from 0 to almost 1 with the steps that are left."""
        raise NotImplementedError


class Polynomial(WarmUp):
    """(1 - progress)^power down to `final_factor`; with power 1, the schedule of InsightFace's recipes.

    Args:
        warmup_steps, warmup_epochs: length of the linear warm-up, one of the two.
        power: exponent of the decay.
        final_factor: factor on the learning rate at the end of the decay.
    """

    def __init__(
        self,
        *,
        warmup_steps: int | None = None,
        warmup_epochs: float | None = None,
        power: float = 1.0,
        final_factor: float = 0.0,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup_epochs=warmup_epochs)
        _check_not_negative("power", power)
        _check_not_negative("final_factor", final_factor)
        self.power = power
        self.final_factor = final_factor

    def decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        return self.final_factor + (1 - self.final_factor) * (1 - progress) ** self.power


class Cosine(WarmUp):
    """Half a cosine from 1 down to `final_factor`.

    Args:
        warmup_steps, warmup_epochs: length of the linear warm-up, one of the two.
        final_factor: factor on the learning rate at the end of the decay.
    """

    def __init__(
        self, *, warmup_steps: int | None = None, warmup_epochs: float | None = None, final_factor: float = 0.0
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup_epochs=warmup_epochs)
        _check_not_negative("final_factor", final_factor)
        self.final_factor = final_factor

    def decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2


class StepDecay(WarmUp):
    """Multiplies the rate by `gamma` at each milestone, as in the ArcFace paper (20k and 28k of 32k steps).

    Args:
        milestones_steps, milestones_epochs: when to decay, one of the two, counted from the start of training.
        gamma: the factor at each milestone.
        warmup_steps, warmup_epochs: length of the linear warm-up, one of the two.
    """

    def __init__(
        self,
        *,
        milestones_steps: Sequence[int] | None = None,
        milestones_epochs: Sequence[float] | None = None,
        gamma: float = 0.1,
        warmup_steps: int | None = None,
        warmup_epochs: float | None = None,
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, warmup_epochs=warmup_epochs)
        if (milestones_steps is None) == (milestones_epochs is None):
            raise ConfigError("set exactly one of schedule.milestones_steps and schedule.milestones_epochs")
        _check_not_negative("gamma", gamma)
        self.milestones_steps = milestones_steps
        self.milestones_epochs = milestones_epochs
        self.gamma = gamma

    def decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        if self.milestones_steps is not None:
            passed = sum(step >= milestone for milestone in self.milestones_steps)
        else:
            passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones_epochs or ())
        return self.gamma**passed


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"schedule.{name}={value}; expected 0 or more")
