"""However a run is interrupted, the same command ends with the same bits as a run that never was."""

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from facerec.cli.main import main
from facerec.heads.centres import ClassCentres
from facerec.runs.checkpoints import step_directories
from facerec.runs.manifest import read_manifest
from facerec.runs.run_log import read_metrics
from tests.integration.training_runs import (
    NUM_STEPS,
    Starter,
    flip_byte,
    last_step,
    result_bits,
    run,
    start,
    state_tensors,
    tiny_overrides,
    write_faces,
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces") / "set")


@pytest.fixture(scope="module")
def reference(faces, tmp_path_factory) -> Path:
    """The run directory of a process that was never interrupted. Not to be changed."""
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    run(start, tiny_overrides(faces, run_dir), run_dir.with_suffix(".log"))
    assert [path.name for path in step_directories(run_dir / "checkpoints")] == ["step-00000020", "step-00000024"]
    return run_dir


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter() as ready:
        yield ready


@pytest.fixture
def in_process(command):
    """`in_process(overrides)` trains here: (exit code, what was printed)."""
    return lambda overrides: command("train", *overrides)


@pytest.fixture
def interrupted(reference, tmp_path) -> Path:
    """A copy of the reference as it stood after step 20."""
    run_dir = tmp_path / "run"
    shutil.copytree(reference, run_dir)
    shutil.rmtree(run_dir / "checkpoints" / f"step-{NUM_STEPS:08d}")
    (run_dir / "result.json").unlink()
    return run_dir


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"step": 24, "met'])
def test_result_that_is_damaged_is_written_again(content, faces, reference, tmp_path):
    run_dir = Path(shutil.copytree(reference, tmp_path / "run"))
    (run_dir / "result.json").write_text(content)
    main(["train", *tiny_overrides(faces, run_dir)])
    assert (run_dir / "result.json").read_text() == (reference / "result.json").read_text()


@pytest.mark.parametrize(("workers", "workers_after"), [(0, 1), (1, 3), (3, 0)])
def test_killed_in_the_middle_of_an_epoch(workers, workers_after, faces, reference, starter, tmp_path):
    begin = start if workers == 0 else starter.start  # once by `python -m facerec` itself
    run_dir, log = tmp_path / "run", tmp_path / "log"
    process = begin(tiny_overrides(faces, run_dir, f"loader.num_workers={workers}"), log)
    process.wait_until(lambda: last_step(run_dir) >= 8)  # an epoch has 6 steps, and the last checkpoint is at 5
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (run_dir / "result.json").exists()
    printed = run(begin, tiny_overrides(faces, run_dir, f"loader.num_workers={workers_after}"), log)
    resumed_at = int(re.search(r"resuming from \S+, step (\d+) of 24", printed)[1])
    assert 5 <= resumed_at < NUM_STEPS and "not bit-exact" not in printed
    assert result_bits(run_dir) == result_bits(reference)
    assert json.loads((run_dir / "result.json").read_text())["step"] == NUM_STEPS
    assert [line["step"] for line in read_metrics(run_dir / "metrics.jsonl")] == list(range(1, NUM_STEPS + 1))


def test_sigterm_to_all_processes_stops_with_a_checkpoint_and_the_same_command_goes_on(
    faces, reference, starter, tmp_path
):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    overrides = tiny_overrides(faces, run_dir, "loader.num_workers=2")
    process = starter.start(overrides, log)
    process.wait_until(lambda: last_step(run_dir) >= 7)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 0, log.read_text()
    printed = log.read_text()
    stopped_at = int(re.search(r"stopped at step (\d+) with a checkpoint; to resume:", printed)[1])
    assert "SIGTERM: stopping at the end of this step" in printed and "Traceback" not in printed
    assert step_directories(run_dir / "checkpoints")[-1].name == f"step-{stopped_at:08d}"
    assert 7 <= stopped_at < NUM_STEPS and not (run_dir / "result.json").exists()
    assert f"resuming from {run_dir}/checkpoints/step-{stopped_at:08d}" in run(starter.start, overrides, log)
    assert result_bits(run_dir) == result_bits(reference)


@pytest.mark.slow
def test_kills_at_any_moment_never_leave_a_run_that_cannot_go_on(faces, reference, starter, tmp_path):
    """With a checkpoint after every step, most of the time goes into writing them."""
    run_dir, log = tmp_path / "run", tmp_path / "log"
    overrides = tiny_overrides(faces, run_dir, "checkpoint.every_steps=1", "checkpoint.keep_last=1")
    chance = random.Random(7)
    newest = 0
    for num_names in (1, 2, 3, 4, 1, 5):  # each checkpoint has two, while it is written and after
        seen = checkpoint_names(run_dir)
        enough = len(seen) + num_names
        process = starter.start(overrides, log)
        process.wait_until(
            lambda seen=seen, enough=enough: len(seen) >= enough or seen.update(checkpoint_names(run_dir))
        )
        time.sleep(chance.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log.read_text()
        steps = [read_manifest(path)["step"] for path in step_directories(run_dir / "checkpoints")]
        assert max(steps, default=0) >= newest
        newest = max(steps, default=0)
    assert 3 <= newest < NUM_STEPS
    printed = run(starter.start, overrides, log)
    assert "resuming from" in printed and "skipped: " not in printed and "Traceback" not in printed
    assert result_bits(run_dir) == result_bits(reference)
    assert len(list((run_dir / "checkpoints").iterdir())) <= 2  # what the kills left was swept up


def checkpoint_names(run_dir: Path) -> set[str]:
    """Of the whole ones, and of those that are being written or were when a process was killed."""
    return {path.name for path in (run_dir / "checkpoints").glob("step-*")}


def test_damaged_checkpoint_is_passed_over_with_a_warning_even_when_the_run_was_finished(
    faces, reference, tmp_path, in_process
):
    run_dir = tmp_path / "run"
    shutil.copytree(reference, run_dir)
    newest = run_dir / "checkpoints" / f"step-{NUM_STEPS:08d}"
    flip_byte(newest / "train_state" / "__0_0.distcp")
    code, printed = in_process(tiny_overrides(faces, run_dir))
    assert code == 0
    assert f"skipped: {newest}/train_state/__0_0.distcp is not what was written" in printed
    assert f"resuming from {run_dir}/checkpoints/step-00000020, step 20 of 24" in printed
    assert "skipped: " in (run_dir / "log.txt").read_text()
    assert result_bits(run_dir) == result_bits(reference)
    assert json.loads((run_dir / "result.json").read_text())["step"] == NUM_STEPS


def test_finished_run_has_nothing_to_do(faces, reference, tmp_path, in_process):
    run_dir = tmp_path / "run"
    shutil.copytree(reference, run_dir)
    code, printed = in_process(tiny_overrides(faces, run_dir))
    assert code == 0 and "is finished (24 steps); nothing to do" in printed
    assert f"train run_dir={run_dir} trainer.num_steps=48\n" in printed
    assert f"train resume_from={run_dir} run_dir={run_dir}_2 optimizer.lr=0.005\n" in printed
    assert result_bits(run_dir) == result_bits(reference)


def test_finished_run_goes_on_with_more_steps_as_if_it_had_never_ended(faces, tmp_path, in_process):
    """With a constant learning rate, 12 steps and 12 more are 24 steps to the bit: centres, momentum, average."""
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    constant = ["schedule=step", "trainer.ema_decay=0.9"]
    code, printed = in_process(tiny_overrides(faces, whole, *constant))
    assert code == 0, printed
    code, printed = in_process(tiny_overrides(faces, longer, *constant, "trainer.num_steps=12"))
    assert code == 0 and json.loads((longer / "result.json").read_text())["step"] == 12, printed
    code, printed = in_process([f"run_dir={longer}", "trainer.num_epochs=4"])
    assert code == 0, printed
    assert "the length changes: 12 -> 24 steps" in printed and "step-00000012, step 12 of 24" in printed
    assert result_bits(longer) == result_bits(whole)
    assert json.loads((longer / "result.json").read_text())["step"] == 24
    assert [line["step"] for line in read_metrics(longer / "metrics.jsonl")] == list(range(1, 25))
    code, printed = in_process(tiny_overrides(faces, longer, *constant))  # 24 steps, said otherwise
    assert code == 0 and "nothing to do" in printed


def test_interrupted_run_goes_on_with_another_length_and_says_what_the_learning_rate_does(
    faces, interrupted, in_process
):
    code, printed = in_process(tiny_overrides(faces, interrupted, "trainer.num_steps=19"))
    assert code == 2 and "trainer.num_steps=19 means 19 steps, but the run has already done 20" in printed
    code, printed = in_process(tiny_overrides(faces, interrupted, "trainer.num_steps=30"))
    assert code == 0 and "step 20 of 30" in printed
    warm_up = 6  # then linear to 0
    now, before = 0.05 * (30 - 20) / (30 - warm_up), 0.05 * (24 - 20) / (24 - warm_up)
    assert (
        f"the length changes: 24 -> 30 steps. The schedule follows the new length: the learning rate is {now:.4g} at "
        f"step 21; with the old length it was {before:.4g} at step 21" in printed
    )
    assert read_metrics(interrupted / "metrics.jsonl")[20]["train/lr"] == pytest.approx(now)
    code, printed = in_process(tiny_overrides(faces, interrupted))
    assert code == 2 and "means 24 steps, but the run has already done 30" in printed
    assert json.loads((interrupted / "result.json").read_text())["step"] == 30


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("head.m2=0.4", "head.m2: stored 0.5, now 0.4"),
        ("seed=2", "seed: stored 1, now 2"),
        ("optimizer.momentum=0.8", "optimizer.momentum: stored 0.9, now 0.8"),
        ("data.global_batch_size=16", "data.global_batch_size: stored 8, now 16"),
        ("augment=none", "augment.transforms"),
        ("resume=never", "resume=never, but"),
    ],
)
def test_other_settings_are_refused_with_the_difference_and_the_ways_out(
    change, difference, faces, reference, in_process
):
    def written():  # the log gets the message, and older filelocks touch the lock
        files = [path for path in reference.rglob("*") if path.name not in ("log.txt", ".lock")]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    code, printed = in_process(tiny_overrides(faces, reference, change))
    assert code == 2 and difference in printed and "Traceback" not in printed
    if change != "resume=never":
        new = f"{reference}_2"
        assert f"train resume_from={reference} run_dir={new} {change}\n" in printed
        assert f" {change} init_from={reference} run_dir={new}\n" in printed
    assert written() == before


def test_data_that_moved_is_taken_and_what_does_not_change_the_result_may_differ(
    faces, reference, interrupted, tmp_path, in_process
):
    moved = tmp_path / "elsewhere"
    shutil.copytree(faces, moved)
    free = ["checkpoint.every_steps=7", "logging.every_steps=3", "eval.every_epochs=2", "loader.num_workers=1"]
    code, printed = in_process(tiny_overrides(moved, interrupted, *free))
    assert code == 0 and "step 20 of 24" in printed
    assert result_bits(interrupted) == result_bits(reference)
    assert str(moved) in (interrupted / "config.yaml").read_text()


def test_other_data_are_refused(reference, tmp_path, in_process):
    others = write_faces(tmp_path / "others", seed=2)
    code, printed = in_process(tiny_overrides(others, reference))
    assert code == 2 and "Traceback" not in printed
    assert re.search(rf"the data: fingerprint stored \w{{12}}, now \w{{12}} \({others}\)", printed)


@pytest.mark.parametrize("file", ["config.yaml", "run.json"])
def test_run_that_does_not_say_what_it_was_is_refused(file, faces, interrupted, in_process):
    (interrupted / file).write_text("{")
    code, printed = in_process(tiny_overrides(faces, interrupted))
    assert code == 2 and "its config.yaml or run.json cannot be read" in printed and "Traceback" not in printed


@pytest.mark.parametrize(
    "config", ["!!python/object/apply:os.mkdir [{path}]", "head: {{_target_: os.mkdir, path: {path}}}"]
)
def test_planted_configuration_is_compared_and_never_run(config, faces, interrupted, in_process, tmp_path):
    (interrupted / "config.yaml").write_text(config.format(path=tmp_path / "ran"))
    code, printed = in_process(tiny_overrides(faces, interrupted))
    assert code == 2 and printed.count("error: ") == 1 and "Traceback" not in printed
    assert ("cannot be read" if config.startswith("!!") else "head._target_") in printed
    assert not (tmp_path / "ran").exists()


def test_init_from_takes_the_weights_and_nothing_else(faces, reference, tmp_path, in_process):
    run_dir = tmp_path / "run"
    still = ["trainer.num_steps=1", "optimizer.lr=0", "head.m2=0.4"]
    code, printed = in_process(tiny_overrides(faces, run_dir, *still, f"init_from={reference}"))
    assert code == 0 and "resuming" not in printed
    num_tensors = len(load_file(reference / "checkpoints" / "step-00000024" / "model.safetensors"))
    assert f"step-00000024: {num_tensors} of {num_tensors} tensors taken" in printed
    (checkpoint,) = step_directories(run_dir / "checkpoints")
    assert checkpoint.name == "step-00000001"
    theirs = load_file(reference / "checkpoints" / "step-00000024" / "model.safetensors")
    ours = load_file(checkpoint / "model.safetensors")
    trained = [name for name in ours if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert all(torch.equal(ours[name], theirs[name]) for name in trained)
    state = state_tensors(checkpoint)
    fresh = ClassCentres(num_classes=6, embedding_dim=32, seed=1).weight
    assert torch.equal(state["objective.head.centres.weight"], fresh)
    assert [line["step"] for line in read_metrics(run_dir / "metrics.jsonl")] == [1]
    code, printed = in_process(tiny_overrides(faces, reference, f"init_from={run_dir}"))
    assert code == 2 and "init_from: stored None" in printed


def test_two_processes_never_train_in_one_directory(faces, reference, tmp_path, in_process, monkeypatch):
    run_dir = tmp_path / "run"
    shutil.copytree(reference, run_dir)
    monkeypatch.setattr("facerec.runs.run_directory.SECONDS_TO_WAIT", 0)
    with FileLock(run_dir / ".lock"):
        code, printed = in_process(tiny_overrides(faces, run_dir))
    assert code == 2 and f"{run_dir}: another process trains there" in printed
    assert in_process(tiny_overrides(faces, run_dir))[0] == 0
