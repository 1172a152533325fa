"""What a grid prints: short lines, progress and expected end, each warning once."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from facerec.core.metric import SHARE, Metric
from facerec.core.progress_bar import Pace
from facerec.runs.run_directory import RunDirectory
from facerec.sweeping.grid import Outcome, Trial
from facerec.sweeping.grid_report import GridReport, labels_of


class Times:
    """A clock that the test sets."""

    now_s = datetime(2026, 3, 1, 12, 0).timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Times:
    return Times()


@pytest.fixture
def trials(tmp_path) -> list[Trial]:
    shared = ("data=on_disk", "experiment=base")
    return [
        Trial(overrides=(*shared, f"head.m2={m2}", "run_dir=x"), directory=tmp_path / f"m2-{m2}")
        for m2 in (0.2, 0.3, 0.4)
    ]


def report_of(trials, clock, *, is_terminal=False) -> GridReport:
    pace = Pace(clock=clock, longest_gap_s=600)
    return GridReport(trials, num_steps=[100] * len(trials), is_terminal=is_terminal, pace=pace, clock=clock)


def log_step(trial: Trial, step: int, time_s: float) -> None:
    trial.directory.mkdir(exist_ok=True)
    with open(RunDirectory(trial.directory).metrics, "a") as file:
        file.write(json.dumps({"step": step, "time": time_s}) + "\n")


def test_labels_are_what_differs(trials):
    assert labels_of(trials) == ["head.m2=0.2", "head.m2=0.3", "head.m2=0.4"]
    assert labels_of(trials[:1]) == ["m2-0.2"]


def test_log_file_gets_a_line_for_each_start_and_end_and_progress_with_growing_gaps(trials, clock, capsys):
    report = report_of(trials, clock)
    report.skipped([2])
    report.started(0)
    for second in range(1, 61):
        clock.now_s += 1
        if second % 10 == 0:
            log_step(trials[0], second, clock.now_s)
        report.tick([0])
    RunDirectory(trials[0].directory).write_result(
        step=100, metrics=[Metric(name="eval/lfw/accuracy", value=0.7, unit=SHARE, is_leading=True)]
    )
    clock.now_s += 60
    report.ended(0, Outcome(trial=trials[0], status="finished"))
    report.started(1)
    report.tick([1])
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "1 of 3 is finished already",
        "[1/3] head.m2=0.2: started",
        "1 of 3 done, 1 running (step 10 of 100), 1 to do; about 0:03:10 left, until 12:03",
        "1 of 3 done, 1 running (step 30 of 100), 1 to do; about 0:02:50 left, until 12:03",
        "[1/3] head.m2=0.2: finished in 0:02:00, lfw accuracy 70.00 %",
        "[2/3] head.m2=0.3: started",
        "2 of 3 done, 1 running (step 0 of 100), 0 to do; about 0:02:00 left, until 12:04",
    ]
    assert err == ""


def test_terminal_has_one_line_of_progress_that_is_replaced(trials, clock, capsys):
    report = report_of(trials, clock, is_terminal=True)
    report.started(0)
    clock.now_s += 2
    report.tick([0])
    report.tick([0])  # within the same second
    report.say("a line")
    report.clear()
    out, err = capsys.readouterr()
    assert out == "[1/3] head.m2=0.2: started\na line\n"
    assert err == "\r\x1b[2K0 of 3 done, 1 running (step 0 of 100), 2 to do\r\x1b[2K"


def test_same_error_and_same_warning_are_printed_once(trials, clock, capsys):
    report = report_of(trials, clock)
    for number, trial in enumerate(trials[:2]):
        trial.directory.mkdir()
        log = RunDirectory(trial.directory).log
        log.write_text("2026-01-01 10:00:00,000 WARNING of an earlier start\n")
        report.started(number)
        with open(log, "a") as file:
            file.write("2026-01-01 10:00:00,000 INFO first loss\n2026-01-01 10:00:00,000 WARNING few steps\nincomplete")
        report.ended(number, Outcome(trial=trial, status="failed", message="exit code 2: error: wrong"))
    assert capsys.readouterr().out.splitlines() == [
        "[1/3] head.m2=0.2: started",
        "[1/3] head.m2=0.2: warning: few steps",
        "[1/3] head.m2=0.2: failed after 0:00:00: exit code 2: error: wrong",
        "[2/3] head.m2=0.3: started",
        "[2/3] head.m2=0.3: failed after 0:00:00: the same error as above",
    ]
    assert report.progress([]) == "2 of 3 done (2 failed), 0 running, 1 to do"


def test_damaged_lines_of_a_trial_do_not_stop_the_grid(trials, clock, tmp_path):
    report = report_of(trials, clock)
    Path(trials[0].directory).mkdir()
    RunDirectory(trials[0].directory).metrics.write_text('{"step": 3}\nnonsense\n')
    report.started(0)
    clock.now_s += 2
    report.tick([0])
    assert "step 0 of 100" in report.progress([0])
