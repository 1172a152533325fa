"""The margin and the benchmark that docs/extending.md builds in a user's own package: its text, through every verb."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.extending_page import write_lab
from tests.integration.training_runs import TIMEOUT_S, environment, tiny_overrides, write_faces


@pytest.fixture
def lab(tmp_path) -> Path:
    """A folder with the examples' package and their YAML, and a gallery of the faces."""
    write_faces(tmp_path / "faces")
    return write_lab(tmp_path)


def facerec(lab: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join([str(lab), env["PYTHONPATH"]])
    command = [sys.executable, "-m", "facerec", *arguments, "--config-dir", "conf"]
    return subprocess.run(command, cwd=lab, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)


def test_own_benchmark_goes_through_training_keep_best_tables_and_evaluate(lab):
    overrides = [one for one in tiny_overrides(lab / "faces", lab / "grid") if not one.startswith("checkpoint.")]
    chosen = ["eval/benchmarks=[gallery]", f"eval.benchmarks.gallery.root={lab / 'faces'}"]
    steps = ["trainer.num_steps=3", "eval.every_epochs=null", "eval.every_steps=1", "checkpoint.every_steps=1"]
    keep = ["checkpoint.every_epochs=null", "checkpoint.keep_last=1", "checkpoint.keep_best=1"]
    done = facerec(lab, "train", "-m", *overrides, *chosen, *steps, *keep, "seed=1,2", "head=sine_squared")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"finished in .*, gallery rank1 [\d.]+ %", done.stdout)) == 2
    (table,) = lab.glob("grid/**/table.csv")
    (row,) = list(csv.DictReader(table.open()))
    assert row["num_seeds"] == row["gallery_num_seeds"] == "2"
    runs = sorted(path.parent for path in lab.glob("grid/**/result.json"))
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    mean = sum(100 * result["metrics"]["eval/gallery/rank1"] for result in results) / 2
    assert float(row["gallery_rank1_mean_percent"]) == pytest.approx(mean, abs=1e-4)
    models: dict[Path, str] = {}
    for run in runs:
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        ranks = {line["step"]: line["eval/gallery/rank1"] for line in lines if "eval/gallery/rank1" in line}
        best = max(ranks, key=lambda step: (ranks[step], step))  # of equals the newest
        kept = {int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*")}
        assert list(ranks) == [1, 2, 3] and kept == {best, 3}
        models = {run: f"model={run}" if best == 3 else f"model={run}@best", **models}
        assert (run / "curves.png").stat().st_size > 10_000

    finished = facerec(lab, "train", *overrides, *chosen, *steps, *keep, "head=sine_squared", f"run_dir={runs[0]}")
    (printed,) = re.findall(r"facerec (evaluate .*)", finished.stdout)
    assert shlex.split(printed) == [
        "evaluate", "--config-dir", "conf", models[runs[0]], *chosen, "baselines=true",
    ]  # fmt: skip

    scored = facerec(lab, "evaluate", f"model={runs[0]}", *chosen, "device=cpu")
    assert scored.returncode == 0, scored.stdout + scored.stderr
    stored = json.loads((runs[0] / "evaluation.json").read_text())
    assert stored["metrics"] == pytest.approx(results[0]["metrics"], abs=1e-6)
    assert f"{100 * stored['metrics']['eval/gallery/rank1']:.2f} %" in scored.stdout
    assert re.search(r"tpir_at_fpir_1e-2 +[\d.]+ %", scored.stdout)


def test_metric_that_no_benchmark_yields_is_named_at_the_first_evaluation(lab):
    best = "checkpoint.best_metric=eval/gallery/auc"  # of a benchmark that does not name its metrics before
    overrides = tiny_overrides(lab / "faces", lab / "run", "trainer.num_steps=2", best)
    chosen = ["eval/benchmarks=[gallery]", f"eval.benchmarks.gallery.root={lab / 'faces'}"]
    done = facerec(lab, "train", *overrides, *chosen)
    assert done.returncode == 2
    assert (
        "error: checkpoint.best_metric=eval/gallery/auc; expected one of eval/gallery/rank1, "
        "eval/gallery/tpir_at_fpir_1e-2, or null\n" in done.stderr
    )


def test_class_that_is_no_evaluator_is_refused_before_the_first_step(lab):
    path = lab / "mylab" / "gallery.py"
    path.write_text(path.read_text().replace("def evaluate(", "def score("))
    chosen = ["eval/benchmarks=[gallery]", f"eval.benchmarks.gallery.root={lab / 'faces'}"]
    done = facerec(lab, "train", *tiny_overrides(lab / "faces", lab / "run"), *chosen)
    assert done.returncode == 2
    assert (
        "error: eval.benchmarks.gallery: mylab.gallery.GalleryBenchmark cannot serve as an evaluator: it has no "
        "evaluate(embed). docs/extending.md#evaluator"
    ) in done.stderr
    assert not (lab / "run" / "metrics.jsonl").exists()
