"""Estimates how long a grid still takes, from the steps that its trials have done."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(kw_only=True)
class TrialClock:
    """The steps and times of one trial of this grid. All times are in seconds on one clock.

    Attributes:
        num_steps: the steps of the whole trial; None if unknown.
        first_step: the step at which it starts; more than 0 if it resumes.
        started_s: when its process was started; None if it waits.
        first_seen, last_seen: the first and the newest step that it has logged since, each with its time.
        ended_s: when it ended with its result; None if it has not.
    """

    num_steps: int | None = None
    first_step: int = 0
    started_s: float | None = None
    first_seen: tuple[int, float] | None = None
    last_seen: tuple[int, float] | None = None
    ended_s: float | None = None

    def see(self, step: int, time_s: float) -> None:
        """Records a logged step."""
        if self.first_seen is None:
            self.first_seen = (step, time_s)
        self.last_seen = (step, time_s)

    @property
    def num_own_steps(self) -> int:
        """Returns the steps that it does in this grid."""
        return max(0, (self.num_steps or 0) - self.first_step)

    @property
    def duration_s(self) -> float | None:
        """Returns the time that it takes in all, from its start; None before its end or its second logged step."""
        if self.started_s is None:
            return None
        if self.ended_s is not None:
            return self.ended_s - self.started_s
        if self.first_seen is None or self.last_seen is None or self.first_seen == self.last_seen:
            return None
        (first, first_s), (last, last_s) = self.first_seen, self.last_seen
        return last_s - self.started_s + self._rest_s(last, (last_s - first_s) / max(1, last - first))

    @property
    def rough_duration_s(self) -> float | None:
        """Like `duration_s`, from one logged step: the time before the first step counts as if it were steps."""
        if self.started_s is None or self.last_seen is None:
            return None
        last, last_s = self.last_seen
        so_far_s = last_s - self.started_s
        return so_far_s + self._rest_s(last, so_far_s / max(1, last - self.first_step))

    def _rest_s(self, step: int, s_per_step: float) -> float:
        return s_per_step * max(0, (self.num_steps or 0) - step)


def seconds_left(clocks: Iterable[TrialClock], *, num_jobs: int, now_s: float) -> float | None:
    """Returns the time until the last trial ends; None as long as no trial has logged a step.

    A trial that has not shown its speed is expected to be as fast per step as the others are on average.

    Args:
        clocks: those of the trials that are waiting, running, or ended with a result in this grid.
        num_jobs: how many trials run at a time.
        now_s: the time now.
    """
    clocks = list(clocks)
    durations = [clock.duration_s for clock in clocks]
    if all(duration is None for duration in durations):
        durations = [clock.rough_duration_s for clock in clocks]
    measured = [(duration, clock.num_own_steps) for clock, duration in zip(clocks, durations, strict=True)]
    known = [(duration, steps) for duration, steps in measured if duration is not None and steps]
    if not known or any(clock.num_steps is None for clock in clocks):
        return None
    s_per_step = sum(duration for duration, _ in known) / sum(steps for _, steps in known)
    slots: list[float] = []  # when each job is free
    waiting: list[float] = []
    for clock, found in zip(clocks, durations, strict=True):
        duration = s_per_step * clock.num_own_steps if found is None else found
        if clock.started_s is None:
            waiting.append(duration)
        elif clock.ended_s is None:
            slots.append(max(0.0, clock.started_s + duration - now_s))
    slots += [0.0] * (num_jobs - len(slots))
    heapq.heapify(slots)
    for duration in waiting:  # each starts where a job becomes free first
        heapq.heapreplace(slots, slots[0] + duration)
    return max(slots)
