"""Grids over real processes: a tiny script that does what each trial's first override says."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from facerec.sweeping.grid import Trial, run_grid
from facerec.sweeping.trial_process import TrialProcess

SCRIPT = """
import os, signal, sys, time
directory, what = sys.argv[1:3]
os.makedirs(directory, exist_ok=True)
open(f"{directory}/starts", "a").write("x")
if what == "fail":
    print("first line", file=sys.stderr)
    sys.exit("error: as it was told")
if what == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if what == "wait":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        open(f"{directory}/checkpoint", "w").write("kept")
        sys.exit(130)
if what != "leave":
    open(f"{directory}/result", "w").write("done")
"""


@pytest.fixture
def grid(tmp_path):
    script = tmp_path / "trial.py"
    script.write_text(SCRIPT)

    class Grid:
        directory = tmp_path

        def __init__(self):
            self.told = []
            self.say = self.told.append

        def skipped(self, numbers):
            self.told.append(f"skipped {numbers}")

        def started(self, number):
            self.told.append(f"started {number}")

        def ended(self, number, outcome):
            self.told.append(f"ended {number}: {outcome.status} {outcome.message}")

        def tick(self, running):
            pass

        def clear(self):
            self.told.append("cleared")

        def trials(self, *names):
            return [Trial(overrides=(name,), directory=tmp_path / f"{number}") for number, name in enumerate(names)]

        def start(self, trial):
            return TrialProcess(command=[sys.executable, str(script), str(trial.directory), *trial.overrides])

        def run(self, trials, **arguments):
            arguments = {"start": self.start, "report": self} | arguments
            return run_grid(trials, is_finished=lambda trial: (trial.directory / "result").exists(), **arguments)

        def starts(self, number):
            path = tmp_path / str(number) / "starts"
            return len(path.read_text()) if path.exists() else 0

    return Grid()


def wait_for(condition, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_failures_are_listed_and_the_others_go_on(grid):
    outcomes = grid.run(grid.trials("fail", "finish", "crash", "leave", "finish"))
    assert [outcome.status for outcome in outcomes] == ["failed", "finished", "failed", "failed", "finished"]
    assert outcomes[0].message == "exit code 1: error: as it was told"
    assert outcomes[2].message.startswith("exit code -11")
    assert outcomes[3].message.startswith("ended without a result")
    assert grid.told[:3] == ["skipped []", "started 0", "ended 0: failed exit code 1: error: as it was told"]
    assert grid.told[-1] == "cleared"


def test_second_run_skips_what_is_finished_and_starts_the_rest_again(grid):
    grid.run(grid.trials("fail", "finish"))
    outcomes = grid.run(grid.trials("finish", "finish"))
    assert [outcome.status for outcome in outcomes] == ["finished", "skipped"]
    assert (grid.starts(0), grid.starts(1)) == (2, 1)


@pytest.mark.parametrize("num_jobs", [1, 2, 5])
def test_num_jobs_trials_run_at_a_time_in_order(grid, num_jobs):
    running, most, order = [], [], []

    class Counted:
        def __init__(self, trial):
            self.polls = 0
            running.append(self)
            order.append(trial)
            most.append(len(running))
            trial.directory.mkdir()
            (trial.directory / "result").write_text("")

        def poll(self):
            self.polls += 1
            if self.polls < 2:
                return None
            running.remove(self)
            return 0

    trials = grid.trials(*"abcd")
    outcomes = grid.run(trials, start=Counted, num_jobs=num_jobs)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 4
    assert max(most) == min(num_jobs, 4)
    assert order == trials


def test_interrupt_stops_the_running_trial_with_its_checkpoint_and_starts_no_other(grid):
    polls = []

    def start_then_interrupt(trial):
        process = grid.start(trial)
        poll = process.poll

        def interrupting_poll():
            if trial.overrides == ("wait",) and not polls:
                wait_for(lambda: process.error() == "waiting")
                polls.append(1)
                raise KeyboardInterrupt
            return poll()

        process.poll = interrupting_poll
        return process

    outcomes = grid.run(grid.trials("finish", "wait", "finish"), start=start_then_interrupt)
    assert [outcome.status for outcome in outcomes] == ["finished", "interrupted", "not started"]
    assert (grid.directory / "1" / "checkpoint").read_text() == "kept"
    assert grid.starts(2) == 0


def test_third_interrupt_kills(grid):
    calls = []

    class Stubborn:
        def poll(self):
            if "kill" in calls:
                return -9
            raise KeyboardInterrupt

        def interrupt(self):
            calls.append("interrupt")

        def kill(self):
            calls.append("kill")

    outcomes = grid.run(grid.trials("x"), start=lambda trial: Stubborn())
    assert calls == ["interrupt", "interrupt", "kill"]
    assert [outcome.status for outcome in outcomes] == ["interrupted"]


def test_error_of_a_trial_is_found_among_its_output(capfd):
    code = "import sys; print('out'); sys.stderr.write('bar ████\\nerror: wrong\\n  head.m2: 1, now 2\\nmend it\\n')"
    process = TrialProcess(command=[sys.executable, "-c", code])
    wait_for(lambda: process.poll() is not None)
    assert capfd.readouterr() == ("", "")
    assert process.error() == "error: wrong"


def test_ctrl_c_in_a_terminal_does_not_reach_a_trial_twice(grid):
    process = grid.start(grid.trials("wait")[0])
    wait_for(lambda: process.error() == "waiting")
    assert os.getpgid(process._process.pid) != os.getpgid(0)
    process.kill()
    assert process.poll() == -signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the death of a parent is a signal on Linux only")
def test_trials_die_with_a_grid_that_is_killed(tmp_path):
    trial = textwrap.dedent(f"""
        import os, time
        from facerec.sweeping.trial_process import end_with_grid
        end_with_grid()
        open({str(tmp_path / "pid.partial")!r}, "w").write(str(os.getpid()))
        os.rename({str(tmp_path / "pid.partial")!r}, {str(tmp_path / "pid")!r})
        time.sleep(60)
    """)
    grid = textwrap.dedent(f"""
        import sys, time
        from facerec.sweeping.trial_process import TrialProcess
        process = TrialProcess(command=[sys.executable, "-c", {trial!r}])
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", grid])
    wait_for((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()

    def gone():
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(gone)
