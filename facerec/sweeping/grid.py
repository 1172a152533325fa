"""Runs a grid: trials one after another or a few at a time; skips finished ones, and continues after a failure."""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

POLL_S = 0.1
Status = Literal["finished", "skipped", "failed", "interrupted", "not started"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a grid.

    Attributes:
        overrides: the overrides that it is started with.
        directory: its run directory.
        place: the directory that its name gives, if the run already lies in another one; None: `directory`.
    """

    overrides: tuple[str, ...]
    directory: Path
    place: Path | None = None

    @property
    def folder(self) -> Path:
        """Returns the folder in which the grid's table shows the trial."""
        return (self.place or self.directory).parent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a trial. If it failed, `message` has the exit code and the first line of the error."""

    trial: Trial
    status: Status
    message: str = ""


class RunningTrial(Protocol):
    """The result of the function that starts a trial, for example a `TrialProcess`."""

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs."""
        ...

    def interrupt(self) -> None:
        """Asks it to stop with a checkpoint; the second time, without one."""
        ...

    def kill(self) -> None:
        """Ends it."""
        ...

    def error(self) -> str:
        """Returns the error in its output, else its last line."""
        ...


class Report(Protocol):
    """Tells the user what happens; trials are named by their numbers, from 0. See `GridReport`."""

    def say(self, line: str) -> None:
        """Prints a line."""
        ...

    def skipped(self, numbers: Collection[int]) -> None:
        """These trials were finished before."""
        ...

    def started(self, number: int) -> None:
        """A trial is about to start."""
        ...

    def ended(self, number: int, outcome: Outcome) -> None:
        """A trial has ended, with or without a result."""
        ...

    def tick(self, running: Collection[int]) -> None:
        """Called many times a second, with the trials that run."""
        ...

    def clear(self) -> None:
        """Nothing runs any more."""
        ...


def run_grid(
    trials: Sequence[Trial],
    *,
    start: Callable[[Trial], RunningTrial],
    is_finished: Callable[[Trial], bool],
    report: Report,
    num_jobs: int = 1,
) -> list[Outcome]:
    """Runs the trials that are not finished, `num_jobs` at a time, in their order.

    A failed trial is recorded, and the others continue. Ctrl-C is passed on to the running trials, and the grid waits
    for their checkpoints; a second Ctrl-C is passed on too, a third kills them. No further trial is started.

    Args:
        start: starts one trial without waiting for it.
        is_finished: True if a trial's directory holds its result.
        report: is told of all that happens.

    Returns:
        One outcome per trial, in their order.
    """
    outcomes = {
        number: Outcome(trial=trial, status="skipped") for number, trial in enumerate(trials) if is_finished(trial)
    }
    report.skipped(list(outcomes))
    waiting = deque(number for number in range(len(trials)) if number not in outcomes)
    running: dict[int, RunningTrial] = {}
    try:
        while waiting or running:
            while waiting and len(running) < num_jobs:
                number = waiting.popleft()
                report.started(number)
                running[number] = start(trials[number])
            for number, outcome in _collect(running, trials, is_finished):
                outcomes[number] = outcome
                report.ended(number, outcome)
            report.tick(running)
            time.sleep(POLL_S if running else 0)
    except KeyboardInterrupt:
        report.say("stopping: the running trials write a checkpoint; press Ctrl-C again to end them without one")
        _stop(running)
    report.clear()
    for number, trial in enumerate(trials):
        if number not in outcomes:
            status: Status = "interrupted" if number in running else "not started"
            outcomes[number] = Outcome(trial=trial, status="finished" if is_finished(trial) else status)
    return [outcomes[number] for number in range(len(trials))]


def _collect(
    running: dict[int, RunningTrial], trials: Sequence[Trial], is_finished: Callable[[Trial], bool]
) -> list[tuple[int, Outcome]]:
    """Removes the trials that have ended from `running`, and returns their outcomes."""
    ended = []
    for number, process in list(running.items()):
        code = process.poll()
        if code is None:
            continue
        del running[number]
        trial = trials[number]
        if code == 0 and is_finished(trial):
            ended.append((number, Outcome(trial=trial, status="finished")))
        else:
            how = f"exit code {code}" if code else "ended without a result"
            message = f"{how}: {process.error()}".rstrip(": ")
            ended.append((number, Outcome(trial=trial, status="failed", message=message)))
    return ended


def _stop(running: dict[int, RunningTrial]) -> None:
    """Waits for the trials to end; passes on two interrupts and kills them at the third."""
    for attempt in range(3):
        for process in running.values():
            process.kill() if attempt == 2 else process.interrupt()
        try:
            while any(process.poll() is None for process in running.values()):
                time.sleep(POLL_S)
            return
        except KeyboardInterrupt:
            continue
