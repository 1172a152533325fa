"""Which checkpoint of a run a model is: the last, the best, or that of a step; a path may hold an @ itself."""

from pathlib import Path

import pytest

from facerec.core.errors import CheckpointError
from facerec.core.metric import SHARE, Metric, details_of, values_of
from facerec.runs.checkpoints import checkpoint_name
from facerec.runs.choice import best_checkpoint, best_note, choose_checkpoint, split_choice
from facerec.runs.run_directory import RunDirectory
from facerec.runs.whole_directory import whole_directory

ACCURACIES = {100: 0.9, 200: 0.95, 300: 0.92}


def checkpoint(run: RunDirectory, step: int, accuracy: float, *, measured_at: int | None = None) -> Path:
    metrics = [
        Metric(name="eval/lfw/accuracy", value=accuracy, unit=SHARE, is_leading=True),
        Metric(name="eval/lfw/eer", value=accuracy / 10, unit=SHARE, higher_is_better=False),
    ]
    about = {"step": step, "metrics_step": measured_at or step, "metrics": values_of(metrics)}
    path = run.checkpoints / checkpoint_name(step)
    with whole_directory(path, {**about, "metric_details": details_of(metrics)}) as partial:
        (partial / "model").write_text(f"{step}")
    return path


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    for step, accuracy in ACCURACIES.items():
        checkpoint(run, step, accuracy)
    return run


@pytest.mark.parametrize(
    ("which", "step"), [(None, 300), ("last", 300), ("best", 200), ("step-100", 100), ("step-00000200", 200)]
)
def test_choice(which, step, run):
    chosen = choose_checkpoint(run, which)
    assert chosen is not None and chosen.path == run.checkpoints / checkpoint_name(step) and not chosen.warnings
    place = "the last" if step == 300 else "an earlier one"
    best = f"the best is step-200 (eval/lfw/accuracy 95.00 %): model={run.path}@best"
    assert chosen.note == f"{chosen.path}, {place} of 3 checkpoints; {best}"


def test_best_follows_the_runs_own_metric(run):
    run.config.write_text("checkpoint:\n  best_metric: eval/lfw/eer\n")
    chosen = choose_checkpoint(run, "best")
    assert chosen is not None and chosen.path.name == checkpoint_name(100)
    assert "the best is step-100 (eval/lfw/eer 9.00 %)" in chosen.note


def test_metrics_of_an_earlier_step_do_not_judge_a_checkpoint(run):
    last = checkpoint(run, 400, 0.99, measured_at=350)
    chosen = choose_checkpoint(run, "best")
    assert chosen is not None and chosen.path.name == checkpoint_name(200)
    best = best_checkpoint(run, best_metric=None)
    assert (
        best_note(run, best, last, best_metric=None) == f"step-200 (eval/lfw/accuracy 95.00 %): model={run.path}@best"
    )
    last = checkpoint(run, 500, 0.96)
    assert best_checkpoint(run, best_metric=None) == last
    assert best_note(run, last, last, best_metric=None) == "the last checkpoint (eval/lfw/accuracy 96.00 %)"


def test_damaged_last_checkpoint_is_skipped_with_a_warning(run):
    (run.checkpoints / checkpoint_name(300) / "model").write_text("other")
    chosen = choose_checkpoint(run, None)
    assert chosen is not None and chosen.path.name == checkpoint_name(200)
    assert len(chosen.warnings) == 1 and "step-00000300" in chosen.warnings[0]


@pytest.mark.parametrize("which", ["step-150", "bset", ""])
def test_another_choice_is_refused_with_those_there_are(which, run):
    says = rf"@{which}: no such checkpoint; expected @last, @best, or one of @step-100, @step-200, @step-300"
    with pytest.raises(CheckpointError, match=says):
        choose_checkpoint(run, which)


def test_run_without_evaluations_has_no_best_checkpoint(tmp_path):
    run = RunDirectory(tmp_path)
    checkpoint(run, 10, 0.5, measured_at=5)
    assert best_checkpoint(run, best_metric=None) is None
    with pytest.raises(CheckpointError, match="@best: no checkpoint has metrics of its own step"):
        choose_checkpoint(run, "best")


def test_path_with_an_at_that_exists_is_not_split(tmp_path):
    (tmp_path / "a@best").mkdir()
    assert split_choice(f"{tmp_path}/a@best") == (tmp_path / "a@best", None)
    assert split_choice(f"{tmp_path}/a@best@step-3") == (tmp_path / "a@best", "step-3")
    assert split_choice(f"{tmp_path}/b") == (tmp_path / "b", None)
    assert split_choice("~/b@best") == (Path.home() / "b", "best")
