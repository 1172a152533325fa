"""Tells how a grid goes: a line for each trial's start and end, and one of progress with the expected end."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from facerec.core.metric import leading
from facerec.core.progress_bar import Pace, duration_text
from facerec.runs.run_directory import RunDirectory
from facerec.sweeping.grid import Outcome, Trial
from facerec.sweeping.pace_of_trials import TrialClock, seconds_left

LOOK_S = 1.0
LONGEST_GAP_S = 600.0
TAIL_BYTES = 1 << 16
NUM_NAMED = 3  # trials, and metrics, in one line
WARNING = " WARNING "


class GridReport:
    """Prints what happens to the trials of a grid, in short lines.

    On a terminal the last line is progress, and is refreshed; elsewhere a line of progress follows now and then, with
    gaps that grow to ten minutes. The warnings that trials log are printed once each.

    Args:
        trials: all trials.
        num_steps: the steps of each trial, None where they are unknown.
        num_jobs: how many trials run at a time.
        is_terminal: None: whether standard error is one.
        pace: decides when a line of progress is due; None: see above.
        clock: returns the time in seconds, as the trials' logs state it.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        *,
        num_steps: Sequence[int | None] = (),
        num_jobs: int = 1,
        is_terminal: bool | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.trials = trials
        self.labels = labels_of(trials)
        self.num_jobs = num_jobs
        self._clock = clock
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        self._pace = pace or Pace(longest_gap_s=LONGEST_GAP_S)
        self._clocks = [TrialClock(num_steps=steps) for steps in num_steps] or [TrialClock() for _ in trials]
        self._logs = [RunDirectory(trial.directory).log for trial in trials]
        self._read_up_to: dict[int, int] = {}
        self._told: set[str] = set()
        self._skipped: set[int] = set()
        self._failed: set[int] = set()
        self._looked_s = 0.0
        self._is_shown = False

    def say(self, line: str) -> None:
        """Prints a line, above the line of progress."""
        self.clear()
        print(line, flush=True)

    def skipped(self, numbers: Collection[int]) -> None:
        """Tells how many trials were finished before."""
        self._skipped.update(numbers)
        if numbers:
            self.say(f"{len(numbers)} of {len(self.trials)} {'is' if len(numbers) == 1 else 'are'} finished already")

    def started(self, number: int) -> None:
        """Tells that a trial starts; call it before its process runs."""
        clock, log = self._clocks[number], self._logs[number]
        clock.started_s = self._clock()
        before = _last_line(RunDirectory(self.trials[number].directory).metrics)
        clock.first_step = 0 if before is None else before[0]
        self._read_up_to[number] = log.stat().st_size if log.exists() else 0
        self.say(f"{self._name(number)}: started")

    def ended(self, number: int, outcome: Outcome) -> None:
        """Tells how a trial ended: its leading metrics, or why it has no result."""
        clock = self._clocks[number]
        self._warn(number)
        assert clock.started_s is not None
        seconds = self._clock() - clock.started_s
        if outcome.status == "finished":
            clock.ended_s = self._clock()
            metrics = _leading_text(self.trials[number].directory)
            self.say(f"{self._name(number)}: finished in {duration_text(seconds)}{metrics and f', {metrics}'}")
            return
        self._failed.add(number)
        message = outcome.message
        if message in self._told:
            message = "the same error as above"
        self._told.add(outcome.message)
        self.say(f"{self._name(number)}: {outcome.status} after {duration_text(seconds)}: {message}")

    def tick(self, running: Collection[int]) -> None:
        """Looks at the running trials, at most once a second, and shows the progress if that is due."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        for number in running:
            clock = self._clocks[number]
            seen = _last_line(RunDirectory(self.trials[number].directory).metrics)
            if seen is not None and clock.started_s is not None and seen[1] >= clock.started_s:
                clock.see(*seen)
            self._warn(number)
        if self._is_terminal:
            line = self.progress(running)[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
            self._is_shown = True
        elif self._pace.is_due():
            print(self.progress(running), flush=True)

    def progress(self, running: Collection[int]) -> str:
        """Returns the line of progress: trials done, running, to do, and the expected end."""
        ended = {n for n, clock in enumerate(self._clocks) if clock.ended_s is not None} | self._failed | self._skipped
        num_waiting = len(self.trials) - len(ended) - len(running)
        failed = f" ({len(self._failed)} failed)" if self._failed else ""
        at_steps = [self._at_step(number) for number in sorted(running)[:NUM_NAMED] if self._clocks[number].num_steps]
        doing = f"{len(running)} running" + (f" ({', '.join(at_steps)})" if at_steps else "")
        line = f"{len(ended)} of {len(self.trials)} done{failed}, {doing}, {num_waiting} to do"
        counted = [clock for n, clock in enumerate(self._clocks) if n not in self._failed | self._skipped]
        left_s = seconds_left(counted, num_jobs=self.num_jobs, now_s=self._clock())
        return line if left_s is None else f"{line}; {_until(left_s, now_s=self._clock())}"

    def clear(self) -> None:
        """Removes the line of progress from a terminal."""
        if self._is_shown:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._is_shown = False

    def _name(self, number: int) -> str:
        return f"[{number + 1}/{len(self.trials)}] {self.labels[number]}"

    def _at_step(self, number: int) -> str:
        clock = self._clocks[number]
        step = clock.first_step if clock.last_seen is None else clock.last_seen[0]
        return f"step {step:,} of {clock.num_steps:,}"

    def _warn(self, number: int) -> None:
        """Prints the new warnings in a trial's log."""
        try:
            with open(self._logs[number], "rb") as file:
                file.seek(self._read_up_to.get(number, 0))
                new = file.read().rpartition(b"\n")[0]
        except OSError:
            return
        if not new:
            return
        self._read_up_to[number] = self._read_up_to.get(number, 0) + len(new) + 1
        for line in new.decode(errors="replace").splitlines():
            date_and_time, is_warning, message = line.partition(WARNING)
            if is_warning and date_and_time.count(" ") == 1 and message not in self._told:
                self._told.add(message)
                self.say(f"{self._name(number)}: warning: {message}")


def labels_of(trials: Sequence[Trial]) -> list[str]:
    """Returns for each trial the overrides that not all trials share; its directory's name if there are none."""
    shared = set.intersection(*(set(trial.overrides) for trial in trials)) if trials else set()
    labels = []
    for trial in trials:
        own = [one for one in trial.overrides if one not in shared and not one.startswith("run_dir=")]
        labels.append(" ".join(own) or trial.directory.name)
    return labels


def _last_line(metrics: Path) -> tuple[int, float] | None:
    """Returns step and time of the last complete line of a metrics.jsonl; None without one."""
    try:
        with open(metrics, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            lines = file.read().rpartition(b"\n")[0].splitlines()
        line = json.loads(lines[-1])
        return int(line["step"]), float(line["time"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None


def _leading_text(directory: Path) -> str:
    result = RunDirectory(directory).read_result()
    metrics = leading(result[1]) if result is not None else []
    texts = [f"{metric.benchmark} {metric.short_name} {metric.text()}" for metric in metrics[:NUM_NAMED]]
    return ", ".join(texts) + (", ..." if len(metrics) > NUM_NAMED else "")


def _until(left_s: float, *, now_s: float) -> str:
    end = datetime.fromtimestamp(now_s + left_s)
    is_today = end.date() == datetime.fromtimestamp(now_s).date()
    return f"about {duration_text(left_s)} left, until {end:%H:%M}" + ("" if is_today else f" on {end:%Y-%m-%d}")
