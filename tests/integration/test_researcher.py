"""A researcher's first day on real faces: a run that goes on, a grid that is stopped and grows, an unfit benchmark."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.training_runs import environment, last_step

SHORT = ["backbone=iresnet18", "backbone.width_multiplier=0.25", "neck.embedding_dim=64", "data.global_batch_size=16"]
SHORT += ["trainer.num_threads=1", "trainer.device=cpu", "logging.tensorboard=false"]
NUM_STEPS = "trainer.num_steps=30"


@pytest.mark.slow
def test_run_goes_on_longer_and_then_at_another_rate(real_data, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)

    def train(*words: str) -> str:
        code, printed = command("train", *words)
        assert code == 0, printed
        return printed

    data = ["data=on_disk", f"data.root={real_data}/celeba_wild", f"eval.sets=[{real_data}/lfw_dev.bin]"]
    printed = train(*data, "run_dir=runs/a", *SHORT, NUM_STEPS)
    assert "30 optimizer steps of 16 images" in printed and re.search(r"^accuracy +\d\d\.\d\d ± ", printed, re.M)
    assert re.search(r"^next +.* evaluate model=runs/a baselines=true$", printed, re.M)

    printed = train("run_dir=runs/a")
    assert "runs/a is finished (30 steps); nothing to do." in printed
    assert "train run_dir=runs/a trainer.num_steps=60\n" in printed
    assert re.search(r"train resume_from=runs/a run_dir=\S+ optimizer.lr=0.01\n", printed)

    printed = train("run_dir=runs/a", "trainer.num_steps=60")
    assert "the length changes: 30 -> 60 steps" in printed
    assert "resuming from runs/a/checkpoints/step-00000030, step 30 of 60" in printed

    printed = train("resume_from=runs/a", "run_dir=runs/b", "optimizer.lr=0.05")
    assert "these settings change:\n  optimizer.lr: stored 0.1, now 0.05\n" in printed
    assert "runs/a was finished after 60 steps; this run goes on from step 60 to step 120" in printed
    assert last_step(Path("runs/b")) == 120 and last_step(Path("runs/a")) == 60


def started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "facerec", "train", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def ended(words: list[str], folder: Path) -> tuple[int, str]:
    process = started(words, folder)
    printed = process.communicate()[0]
    return process.returncode, printed


def ends_of_runs(folder: Path) -> dict[Path, float]:
    """When the result of each run was written."""
    return {path.parent: path.stat().st_mtime for path in sorted(folder.rglob("result.json"))}


@pytest.mark.slow
def test_grid_that_is_stopped_and_grows_trains_nothing_twice(real_data, tmp_path):
    data = ["data=on_disk", f"data.root={real_data}/celeba_wild", "eval.sets=[]"]
    grid = ["-m", *data, "seed=1,2", "--jobs", "2", *SHORT, NUM_STEPS]

    handler = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs start with it ignored
    process = started([*grid, "head.m2=0.2,0.3"], tmp_path)
    signal.signal(signal.SIGINT, handler)
    while process.poll() is None and not any(map(last_step, (tmp_path / "runs").rglob("head.m2*"))):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    printed = process.communicate()[0]
    assert process.returncode == 130 and "stopped; to go on with what is not finished:" in printed, printed

    code, printed = ended([*grid, "head.m2=0.2,0.3"], tmp_path)
    assert code == 0, printed
    before = ends_of_runs(tmp_path)
    assert len(before) == 4

    code, printed = ended([*grid, "head.m2=0.2,0.3,0.4"], tmp_path)
    assert code == 0, printed
    after = ends_of_runs(tmp_path)
    assert len(after) == 6 and before.items() <= after.items()
    names = sorted(run.name for run in after)
    assert [re.findall(r"m2-(0\.\d)__.*seed-(\d)", name) for name in names] == [
        [(margin, seed)] for margin in ("0.2", "0.3", "0.4") for seed in "12"
    ]
    (table,) = tmp_path.rglob("table.md")
    assert len(re.findall(r"^\| 0\.[234] \| 2 \|", table.read_text(), re.M)) == 3


@pytest.mark.slow
def test_benchmark_that_does_not_fit_is_one_error_before_any_trial(real_data, tmp_path):
    unfit = tmp_path / "unfit.bin"
    unfit.write_bytes(b"no pickle at all")
    data = ["data=on_disk", f"data.root={real_data}/celeba_wild", f"eval.sets=[{unfit}]"]
    code, printed = ended(["-m", *data, "head.m2=0.2,0.3", *SHORT, NUM_STEPS], tmp_path)
    assert code == 2 and printed.count("unfit.bin") == 1 and "Traceback" not in printed, printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_training_in_two_processes_prints_only_its_own_lines(real_data, tmp_path):
    data = ["data=on_disk", f"data.root={real_data}/celeba_wild", "eval.sets=[]", "run_dir=two"]
    code, printed = ended([*data, *SHORT, NUM_STEPS, "launch.processes=2", "trainer.micro_batch_size=8"], tmp_path)
    assert code == 0, printed
    foreign = [line for line in printed.splitlines() if re.search(r"[Ww]arn|^\[?[WEI]\d{4} |torch[./]", line)]
    assert foreign == []
