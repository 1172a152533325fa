"""Processes of a launched training that die, hang or fail: what goes on, what ends, and what the user is told."""

import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facerec.data.records.recordio import write_record_set
from facerec.runs.checkpoints import step_directories
from facerec.runs.manifest import read_manifest
from tests.distributed.launches import STEPS_BETWEEN, launch_overrides, workers_of
from tests.integration.training_runs import (
    NUM_STEPS,
    SIZE_PX,
    Process,
    encoded_images,
    has_ended,
    last_step,
    result_bits,
    run,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tests look into /proc")
MANY_STEPS = 120


def kill_one(process: Process, run_dir: Path, chance: random.Random, *, after: int, within_s: float = 0.3) -> int:
    """Kills a process of a launched training: any of them, within some time after so many steps. Returns which.

    With after > 0 there is a checkpoint to go on from.
    """

    def is_time() -> bool:
        is_saved = after == 0 or len(step_directories(run_dir / "checkpoints")) > 0
        return last_step(run_dir) >= after and is_saved and len(workers_of(process.pid)) == 2

    process.wait_until(is_time)
    time.sleep(chance.uniform(0, within_s))
    rank = chance.choice([0, 1])
    os.kill(workers_of(process.pid)[rank], signal.SIGKILL)
    return rank


def test_killed_process_is_started_again_and_the_bits_are_those_of_an_undisturbed_run(
    faces, torchrun_bits, starter, tmp_path
):
    run_dir, log, chance = tmp_path / "run", tmp_path / "log", random.Random(3)
    process = starter.start(launch_overrides(faces, run_dir), log)
    rank = kill_one(process, run_dir, chance, after=chance.randint(5, NUM_STEPS - 10))
    assert process.wait() == 0, log.read_text()
    printed = log.read_text()
    told = f"process {rank} was killed by SIGKILL; restart 1 of 3 (launch.max_restarts), from the last checkpoint"
    assert printed.count(told) == 1 and "Traceback" not in printed and "stopping at" not in printed
    gone = rf"error: process {1 - rank} of 2 waited after step \d+ in \w+ \(.*\), but another one has gone: .*"
    assert all(re.fullmatch(gone, line) for line in printed.splitlines() if line.startswith("error: "))
    resumed_at = int(re.search(r"resuming from \S+, step (\d+) of 24", printed)[1])
    assert resumed_at % STEPS_BETWEEN == 0 and "not bit-exact" not in printed
    assert result_bits(run_dir) == torchrun_bits


def kill_while_writing(process: Process, run_dir: Path, *, after: int, victims: Callable[[], list[int]]) -> None:
    """Kills processes when, after so many steps, a checkpoint begins to hold something of both workers."""
    before = set(partial_checkpoints(run_dir))

    def is_written() -> bool:
        begun = set(partial_checkpoints(run_dir)) - before
        return any(len(list(path.rglob("*.distcp"))) == 2 for path in begun)

    process.wait_until(lambda: last_step(run_dir) >= after and is_written())
    for pid in victims():
        os.kill(pid, signal.SIGKILL)


def partial_checkpoints(run_dir: Path) -> list[Path]:
    return list((run_dir / "checkpoints").glob("step-*.partial-*"))


@pytest.mark.slow
def test_kills_while_a_checkpoint_is_written_leave_the_one_before(faces, torchrun_bits, starter, tmp_path):
    run_dir, log, chance = tmp_path / "run", tmp_path / "log", random.Random(11)
    overrides = launch_overrides(faces, run_dir, "checkpoint.every_steps=1", "checkpoint.keep_last=1")
    process = starter.start(overrides, log)
    for number in (1, 2, 3):  # one of the two: they start again by themselves
        after = last_step(run_dir) + 3
        kill_while_writing(
            process, run_dir, after=after, victims=lambda: [workers_of(process.pid)[chance.choice([0, 1])]]
        )
        process.wait_until(lambda number=number: f"; restart {number} of 3" in log.read_text())
    kill_while_writing(  # all at once, as when the power fails
        process,
        run_dir,
        after=last_step(run_dir) + 3,
        victims=lambda: [process.pid, *workers_of(process.pid).values()],
    )
    assert process.wait() == -signal.SIGKILL
    for checkpoint in step_directories(run_dir / "checkpoints"):
        read_manifest(checkpoint)
    printed = run(starter.start, overrides, log)
    assert printed.count("resuming from") == 4 and "passed over" not in printed and "not bit-exact" not in printed
    assert result_bits(run_dir) == torchrun_bits
    assert len(list((run_dir / "checkpoints").iterdir())) <= 2  # what the kills left was swept up


@pytest.mark.slow
def test_disk_that_is_full_for_one_process_ends_all_and_what_was_saved_stays(faces, torchrun_bits, starter, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    process = starter.start(launch_overrides(faces, run_dir), log)
    process.wait_until(lambda: last_step(run_dir) >= 5)
    resource.prlimit(workers_of(process.pid)[1], resource.RLIMIT_FSIZE, (10**5, 10**5))  # its part is 1.4 MB
    assert process.wait() == 2, log.read_text()
    printed = log.read_text()
    assert printed.count("error: ") == 1 and "Traceback" not in printed and "restart" not in printed
    told = r"error: (\S+) could not be written: .*File too large.*What was saved before is untouched"
    failed = Path(re.search(told, printed)[1])
    saved = step_directories(run_dir / "checkpoints")
    assert saved and failed not in saved and not partial_checkpoints(run_dir)
    assert f"resuming from {saved[-1]}" in run(starter.start, launch_overrides(faces, run_dir), log)
    assert result_bits(run_dir) == torchrun_bits


def test_image_that_one_process_cannot_read_ends_all_with_one_message(starter, tmp_path):
    images = encoded_images(seed=1)
    images[2][3] = b"no image"
    write_record_set(tmp_path / "set", images, height_px=SIZE_PX, width_px=SIZE_PX)
    log = tmp_path / "log"
    process = starter.start(launch_overrides(tmp_path / "set", tmp_path / "run"), log)
    assert process.wait() == 2, log.read_text()
    printed = log.read_text()
    assert printed.count("error: ") == 1 and "train.rec" in printed.partition("error: ")[2]
    assert "Traceback" not in printed and "restart" not in printed


@pytest.mark.slow
def test_twenty_kills_in_a_row_leave_the_bits_of_an_undisturbed_run(faces, starter, tmp_path):
    run_dir, log, chance = tmp_path / "run", tmp_path / "log", random.Random(5)
    long = f"trainer.num_steps={MANY_STEPS}"
    process = starter.start(launch_overrides(faces, run_dir, long, "launch.max_restarts=20"), log)
    reached = 0
    for number in range(1, 21):
        reached = max(reached, last_step(run_dir))
        if number % 4 == 0:  # while they start
            rank = kill_one(process, run_dir, chance, after=0, within_s=8)
        else:
            rank = kill_one(process, run_dir, chance, after=min(reached + chance.randint(1, 6), MANY_STEPS - 10))
        process.wait_until(lambda number=number: f"; restart {number} of 20" in log.read_text())
        assert f"process {rank} was killed by SIGKILL; restart {number} of 20" in log.read_text()
    assert process.wait() == 0, log.read_text()
    undisturbed = tmp_path / "undisturbed"
    run(starter.start, launch_overrides(faces, undisturbed, long), tmp_path / "other_log")
    assert result_bits(run_dir, step=MANY_STEPS) == result_bits(undisturbed, step=MANY_STEPS)


@pytest.mark.slow
def test_too_many_deaths_end_with_one_clear_message(faces, starter, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    process = starter.start(launch_overrides(faces, run_dir, "launch.max_restarts=0"), log)
    rank = kill_one(process, run_dir, random.Random(1), after=3)
    assert process.wait() == 1
    told = f"error: process {rank} was killed by SIGKILL after 0 restarts (launch.max_restarts); "
    "repeat the command to resume"
    assert log.read_text().count(told) == 1 and "Traceback" not in log.read_text()
    printed = run(starter.start, launch_overrides(faces, run_dir), log)
    assert "resuming from" in printed


@pytest.mark.slow
def test_process_that_does_not_answer_ends_the_training_after_the_timeout(faces, starter, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    timeout_s = 15
    limits = ["launch.max_restarts=0", f"launch.timeout_minutes={timeout_s / 60}"]
    process = starter.start(launch_overrides(faces, run_dir, *limits), log)
    process.wait_until(lambda: last_step(run_dir) >= 3)
    workers = workers_of(process.pid)
    started = time.monotonic()
    os.kill(workers[1], signal.SIGSTOP)
    assert process.wait() == 1
    assert timeout_s <= time.monotonic() - started < timeout_s + 60  # torch gives it 30 s to end
    waited = r"error: process 0 of 2 waited after step (\d+) in \w+ \(.*\), but another one does not answer: Timed out"
    assert int(re.search(waited, log.read_text())[1]) >= 3
    assert "error: process 0 ended with exit code 1 after 0 restarts" in log.read_text()
    assert all(map(has_ended, workers.values()))
