"""`model=<run>@best` and `@step-2`: which checkpoint a verb takes, what it says of it, and where its metrics go."""

import json
import shlex

import pytest

import facerec
from facerec.data.verification_file import write_pairs
from facerec.runs.checkpoints import best_first, step_directories
from facerec.runs.run_directory import RunDirectory
from tests.integration.training_runs import encoded_images, tiny_overrides, write_faces


@pytest.fixture
def trained(command, tmp_path) -> tuple[RunDirectory, str]:
    """A run of four steps with an evaluation and a checkpoint after each, and what it printed."""
    faces = write_faces(tmp_path / "faces")
    images = encoded_images(seed=1)
    pairs = [images[i % 6][j] for i in range(20) for j in ((0, 1) if i % 2 else (2, 3))]
    pairs[2::4] = [images[(i + 3) % 6][4] for i in range(len(pairs[2::4]))]
    write_pairs(tmp_path / "own.bin", pairs, [pair % 2 == 0 for pair in range(20)])
    each = ["checkpoint.every_steps=1", "checkpoint.keep_last=4", "eval.every_epochs=null", "eval.every_steps=1"]
    sets = [f"eval.sets=[{tmp_path / 'own.bin'}]", "eval.num_folds=2"]
    overrides = tiny_overrides(faces, tmp_path / "run", "trainer.num_steps=4", *each, *sets)
    code, printed = command("train", *overrides)
    assert code == 0, printed
    return RunDirectory(tmp_path / "run"), printed


def test_verbs_take_the_chosen_checkpoint_and_say_which(trained, command, tmp_path):
    run, printed = trained
    steps = step_directories(run.checkpoints)
    best = best_first(steps, best_metric=None)[0]
    said = f"step-{int(best.name[5:])} (eval/own/accuracy "
    assert f"\nbest         {'the last checkpoint (eval/own/accuracy ' if best == steps[-1] else said}" in printed

    evaluate = ["evaluate", "num_folds=2", "device=cpu"]
    code, printed = command(*evaluate, f"model={run.path}")
    assert code == 0 and f"model        {steps[-1]}, the last of 4 checkpoints; the best is " in printed, printed
    last = json.loads(run.evaluation.read_text())
    _, at_end = run.read_result() or (0, [])
    assert last["step"] == 4
    assert last["metrics"] == pytest.approx({metric.name: metric.value for metric in at_end}, abs=1e-6)

    code, printed = command(*evaluate, f"model={run.path}@step-2")
    assert code == 0 and f"model        {steps[1]}, an earlier one of 4 checkpoints" in printed, printed
    assert json.loads((run.path / "evaluation_step-00000002.json").read_text())["step"] == 2
    assert json.loads(run.evaluation.read_text()) == last
    assert shlex.split(printed.partition("next")[2])[-2:] == ["report", f"run_dir={run.path.parent}"]

    assert facerec.load(f"{run.path}@best", device="cpu").path == best
    code, printed = command("train", *tiny_overrides(tmp_path / "faces", tmp_path / "other", "trainer.num_steps=1"),
                            f"init_from={run.path}@step-1")  # fmt: skip
    assert code == 0 and f"\n  {steps[0]}, an earlier one of 4 checkpoints; the best is " in printed, printed


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("run@bset", "@bset: no such checkpoint; expected @last, @best, or one of @step-1, @step-2, @step-3, @step-4"),
        ("run/checkpoints/step-00000002@best", "@best chooses a checkpoint of a run directory"),
        ("rnu@best", "no such file or folder"),
    ],
)
def test_another_choice_is_refused(given, says, trained, command, tmp_path):
    code, printed = command("evaluate", f"model={tmp_path / given}", "device=cpu")
    assert code == 2 and says in printed, printed
