"""The length of a run and its epochs in steps, and which actions are due after which step."""

from fractions import Fraction
from typing import Protocol


class Interval(Protocol):
    """An interval: at most one of the two is set."""

    @property
    def every_steps(self) -> int | None: ...

    @property
    def every_epochs(self) -> float | None: ...


class Timetable:
    """Steps and epochs of one run. An epoch ends with the step that takes its last sample.

    Args:
        num_samples: size of the data set.
        global_batch_size: number of samples in a step.
        num_epochs, num_steps: length of the run, one of the two.

    Attributes:
        num_steps: length of the run, at least 1.
        steps_per_epoch: not always a whole number.
    """

    def __init__(
        self, *, num_samples: int, global_batch_size: int, num_epochs: float | None, num_steps: int | None
    ) -> None:
        self._steps_per_epoch = Fraction(num_samples, global_batch_size)
        self.steps_per_epoch = float(self._steps_per_epoch)
        self.num_steps = num_steps or max(1, int(self.steps_of(num_epochs or 0)))

    def steps_of(self, num_epochs: float) -> Fraction:
        """Converts epochs to steps, exactly: 0.1 is a tenth, and rounding never misses the end of an epoch."""
        return Fraction(str(num_epochs)) * self._steps_per_epoch

    def is_due(self, step: int, interval: Interval) -> bool:
        """True if the action is due after this many steps: at its interval, and at the end of the run."""
        if step == self.num_steps:
            return True
        if interval.every_steps is not None:
            return step % interval.every_steps == 0
        if interval.every_epochs is not None:
            every = self.steps_of(interval.every_epochs)
            return step // every > (step - 1) // every
        return False

    def is_log_due(self, step: int, *, first_step: int, every_steps: int) -> bool:
        """True after the first step, at the interval, and at the end; a short rest joins the last interval."""
        rest = self.num_steps - step
        at_interval = step % every_steps == 0 and rest >= every_steps // 2
        return at_interval or step == first_step + 1 or rest == 0
