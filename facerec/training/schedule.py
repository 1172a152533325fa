"""Learning-rate schedules: the factor on the configured rate, as a function of the step alone."""

import math
from collections.abc import Sequence
from typing import Protocol

from facerec.core.errors import ConfigError


class Schedule(Protocol):
    """The interface of a schedule for the trainer."""

    def factor(self, step: int, *, num_steps: int, steps_per_epoch: float) -> float:
        """Returns the factor on the learning rate at a step in 0 .. num_steps - 1."""
        ...


class _WarmUp:
    """A linear warm-up from 0 before the decay; its first step already has a rate above 0."""

    def __init__(self, *, warmup_steps: int | None, warmup_epochs: float | None) -> None:
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
        return self._decay(progress, step=step, steps_per_epoch=steps_per_epoch)

    def _decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        raise NotImplementedError


class Polynomial(_WarmUp):
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

    def _decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        return self.final_factor + (1 - self.final_factor) * (1 - progress) ** self.power


class Cosine(_WarmUp):
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

    def _decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2


class StepDecay(_WarmUp):
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

    def _decay(self, progress: float, *, step: int, steps_per_epoch: float) -> float:
        if self.milestones_steps is not None:
            passed = sum(step >= milestone for milestone in self.milestones_steps)
        else:
            passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones_epochs or ())
        return self.gamma**passed


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"schedule.{name}={value}; expected 0 or more")
