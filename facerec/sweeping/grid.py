"""Runs a grid: trials one after another or a few at a time; skips finished ones, and continues after a failure."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from facerec.core.progress_bar import Pace

POLL_S = 0.1
Status = Literal["finished", "skipped", "failed", "interrupted", "not started"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a grid.

    Attributes:
        overrides: the overrides that it is started with.
        directory: its run directory.
    """

    overrides: tuple[str, ...]
    directory: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a trial. If it failed, `message` has the exit code and the last line of standard error."""

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

    def last_line(self) -> str:
        """Returns the last line of its output."""
        ...


def run_grid(
    trials: Sequence[Trial],
    *,
    start: Callable[[Trial], RunningTrial],
    is_finished: Callable[[Trial], bool],
    num_jobs: int = 1,
    tell: Callable[[str], None] = print,
    pace: Pace | None = None,
) -> list[Outcome]:
    """Runs the trials that are not finished, `num_jobs` at a time, in their order.

    A failed trial is recorded, and the others continue. Ctrl-C is passed on to the running trials, and the grid waits
    for their checkpoints; a second Ctrl-C is passed on too, a third kills them. No further trial is started.

    Args:
        start: starts one trial without waiting for it.
        is_finished: True if a trial's directory holds its result.
        tell: called with one line for each trial that is skipped, started or ended. If several trials run, whose output
            would be mixed, it also gets the last line of each now and then.
        pace: decides when that is due; None: see `Pace`.

    Returns:
        One outcome per trial, in their order.
    """
    outcomes: dict[int, Outcome] = {}
    waiting: deque[int] = deque()
    for number, trial in enumerate(trials):
        if is_finished(trial):
            outcomes[number] = Outcome(trial=trial, status="skipped")
            tell(f"[{number + 1}/{len(trials)}] already finished: {trial.directory}")
        else:
            waiting.append(number)
    running: dict[int, RunningTrial] = {}
    pace = pace or Pace()
    try:
        while waiting or running:
            while waiting and len(running) < num_jobs:
                number = waiting.popleft()
                tell(f"[{number + 1}/{len(trials)}] {' '.join(trials[number].overrides)} -> {trials[number].directory}")
                running[number] = start(trials[number])
            _collect(running, trials, outcomes, is_finished, tell)
            if num_jobs > 1 and pace.is_due():
                for number, process in running.items():
                    tell(f"[{number + 1}/{len(trials)}] {process.last_line()}".rstrip())
            time.sleep(POLL_S if running else 0)
    except KeyboardInterrupt:
        tell("stopping: the running trials write a checkpoint; press Ctrl-C again to end them without one")
        _stop(running)
    for number, trial in enumerate(trials):
        if number not in outcomes:
            status: Status = "interrupted" if number in running else "not started"
            outcomes[number] = Outcome(trial=trial, status="finished" if is_finished(trial) else status)
    return [outcomes[number] for number in range(len(trials))]


def _collect(
    running: dict[int, RunningTrial],
    trials: Sequence[Trial],
    outcomes: dict[int, Outcome],
    is_finished: Callable[[Trial], bool],
    tell: Callable[[str], None],
) -> None:
    """Moves trials that have ended from `running` to `outcomes`."""
    for number, process in list(running.items()):
        code = process.poll()
        if code is None:
            continue
        del running[number]
        trial = trials[number]
        if code == 0 and is_finished(trial):
            outcomes[number] = Outcome(trial=trial, status="finished")
        else:
            how = f"exit code {code}" if code else "ended without a result"
            outcomes[number] = Outcome(trial=trial, status="failed", message=f"{how}: {process.last_line()}")
        tell(f"[{number + 1}/{len(trials)}] {outcomes[number].status} {outcomes[number].message}".rstrip(": "))


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
