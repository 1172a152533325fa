"""Runs that go on: `run_dir=` alone, another length, and `resume_from` with other settings and the whole state."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from facerec.cli.main import main
from facerec.runs.run_log import read_metrics
from facerec.training.checkpoint import CheckpointStore
from facerec.training.train_state import TrainState
from tests.integration.training_runs import result_bits, state_tensors, tiny_overrides, write_faces

AVERAGED = ["trainer.ema_decay=0.9", "trainer.deterministic=true", "schedule=step", "schedule.milestones_steps=[9]"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces") / "set")


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory) -> Path:
    """A run of 12 steps with a moving average. Not to be changed."""
    run_dir = tmp_path_factory.mktemp("finished") / "a"
    main(["train", *tiny_overrides(faces, run_dir, *AVERAGED, "trainer.num_steps=12")])
    return run_dir


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory) -> Path:
    """The same run with 24 steps, never interrupted."""
    run_dir = tmp_path_factory.mktemp("whole") / "a"
    main(["train", *tiny_overrides(faces, run_dir, *AVERAGED, "trainer.num_steps=24")])
    return run_dir


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "a"))


def test_run_dir_alone_composes_the_stored_overrides(copy, command):
    code, printed = command("train", f"run_dir={copy}")
    assert code == 0 and f"{copy} is finished (12 steps); nothing to do." in printed, printed
    assert f"train run_dir={copy} trainer.num_steps=24\n" in printed
    code, shown = command("train", f"run_dir={copy}", "loader.num_workers=3", "--cfg", "job")
    config = yaml.safe_load(shown)
    assert code == 0 and (config["trainer"]["ema_decay"], config["loader"]["num_workers"]) == (0.9, 3)
    assert (config["trainer"]["num_epochs"], config["trainer"]["num_steps"]) == (None, 12)


def test_longer_run_dir_goes_on_to_the_bit_and_fewer_threads_are_no_other_run(copy, whole, command):
    code, printed = command("train", f"run_dir={copy}", "trainer.num_steps=24")
    assert code == 0 and "the length changes: 12 -> 24 steps" in printed and "step 12 of 24" in printed, printed
    assert result_bits(copy) == result_bits(whole)
    code, printed = command("train", f"run_dir={copy}", "trainer.num_threads=2", "checkpoint.keep_last=1")
    assert code == 0 and f"{copy} is finished (24 steps)" in printed  # the length was stored
    code, printed = command("train", f"run_dir={copy}", "trainer.num_epochs=4.5", "trainer.num_threads=2")
    assert code == 0 and "the length changes: 24 -> 27 steps" in printed
    assert "not bit-exact: this run resumes with num_threads 1 -> 2" in printed


def test_resume_from_takes_over_the_whole_state_under_another_learning_rate(finished, tmp_path, command, monkeypatch):
    new = tmp_path / "b"
    restored = {}
    restore = CheckpointStore.restore

    def spy(self: CheckpointStore, path: Path, state: TrainState):
        stored = restore(self, path, state)
        restored["tensors"] = {name: tensor.clone() for name, tensor in state.tensors().items()}
        restored["model"] = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
        return stored

    monkeypatch.setattr(CheckpointStore, "restore", spy)
    code, printed = command("train", f"resume_from={finished}", f"run_dir={new}", "optimizer.lr=0.005")
    assert code == 0, printed
    assert f"resume_from={finished}: these settings change:\n  optimizer.lr: stored 0.05, now 0.005\n" in printed
    assert f"{finished} was finished after 12 steps; this run goes on from step 12 to step 24" in printed
    assert f"the learning rate is 0.0005 at step 13; it was 0.005 at step 12 of {finished}" in printed
    checkpoint = finished / "checkpoints" / "step-00000012"
    stored, model = state_tensors(checkpoint), load_file(checkpoint / "model.safetensors")
    assert restored["tensors"].keys() == stored.keys() and restored["model"].keys() == model.keys()
    assert all(torch.equal(value, stored[name]) for name, value in restored["tensors"].items())
    assert all(torch.equal(value, model[name]) for name, value in restored["model"].items())
    assert {"objective.head.centres.weight", "network.conv1.weight"} <= stored.keys()
    assert any(name.endswith("|momentum_buffer") and bool(value.any()) for name, value in stored.items())
    assert [line["step"] for line in read_metrics(new / "metrics.jsonl")] == list(range(13, 25))
    assert json.loads((new / "result.json").read_text())["step"] == 24
    assert command("train", f"run_dir={new}")[1].startswith(f"{new} is finished (24 steps)")


def test_resume_from_without_a_change_is_the_uninterrupted_run_to_the_bit(finished, whole, tmp_path, command):
    """Also after an interruption, from its own checkpoints; the source is then not needed any more."""
    source, new = shutil.copytree(finished, tmp_path / "a"), tmp_path / "b"
    code, printed = command("train", f"resume_from={source}", f"run_dir={new}", "trainer.num_steps=24")
    assert code == 0 and "no setting changes" in printed, printed
    assert result_bits(new) == result_bits(whole)
    shutil.rmtree(new / "checkpoints" / "step-00000024")
    (new / "result.json").unlink()
    shutil.rmtree(source)
    code, printed = command("train", f"run_dir={new}")
    assert code == 0 and f"resuming from {new}/checkpoints/step-00000020, step 20 of 24" in printed, printed
    assert result_bits(new) == result_bits(whole)


def test_resume_from_takes_an_earlier_checkpoint_of_a_run_or_its_folder(finished, tmp_path, command):
    for number, source in enumerate([f"{finished}@step-10", f"{finished}/checkpoints/step-00000010"]):
        code, printed = command("train", f"resume_from={source}", f"run_dir={tmp_path / str(number)}")
        assert code == 0 and "goes on from step 10 to step 12" in printed, printed


def test_average_that_ends_or_begins_with_resume_from(finished, tmp_path, command):
    without, again = tmp_path / "b", tmp_path / "c"
    still = ["optimizer.lr=0", "optimizer.weight_decay=0"]
    code, printed = command("train", f"resume_from={finished}", f"run_dir={without}", "trainer.ema_decay=null", *still)
    assert code == 0, printed
    trained = state_tensors(finished / "checkpoints" / "step-00000012")
    ours = load_file(without / "checkpoints" / "step-00000024" / "model.safetensors")
    assert torch.equal(ours["conv1.weight"], trained["network.conv1.weight"])
    code, printed = command("train", f"resume_from={without}", f"run_dir={again}", "trainer.ema_decay=0.5")
    assert code == 0, printed
    ours = load_file(again / "checkpoints" / "step-00000048" / "model.safetensors")
    torch.testing.assert_close(ours["conv1.weight"], trained["network.conv1.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["backbone.width_multiplier=0.5"], "conv1.weight is (16, 3, 3, 3) in the checkpoint, (32, 3, 3, 3) in this"),
        (["head.num_classes=9"], "head.centres.weight is (6, 32) in the checkpoint, (9, 32) in this run"),
        (["optimizer=adamw"], "the state of its optimizer (facerec.training.optimizer.SGD) cannot be used by"),
        (["trainer.num_steps=12"], "trainer.num_steps=12 means 12 steps, but resume_from="),
        (["init_from=x"], "are both given"),
    ],
)
def test_state_that_cannot_be_taken_over_is_one_error_and_leaves_no_settings_behind(
    change, says, finished, tmp_path, command
):
    new = tmp_path / "b"
    code, printed = command("train", f"resume_from={finished}", f"run_dir={new}", *change)
    assert code == 2 and says in printed and printed.count("error: ") == 1 and "Traceback" not in printed, printed
    assert "num_steps" in change[0] or "init_from" in printed
    assert not (new / "overrides.json").exists()


def test_sources_that_are_none_are_refused(finished, tmp_path, command):
    for source, says in [
        (tmp_path / "none", "is no run directory, so its settings are unknown"),
        (f"{finished}@step-3", "no such checkpoint"),
    ]:
        code, printed = command("train", f"resume_from={source}", f"run_dir={tmp_path / 'b'}")
        assert code == 2 and says in printed
    code, printed = command("train", f"resume_from={finished}", f"run_dir={finished}")
    assert code == 2 and f"{finished} resumes from its own checkpoints" in printed


def test_resume_from_other_data_is_refused(finished, tmp_path, command):
    others = write_faces(tmp_path / "others", seed=2)
    code, printed = command("train", f"resume_from={finished}", f"run_dir={tmp_path / 'b'}", f"data.root={others}")
    assert code == 2 and "its class centres belong to other data" in printed and "init_from=" in printed


def test_class_in_stored_overrides_is_never_used(copy, command, tmp_path):
    stored = json.loads((copy / "overrides.json").read_text())
    for planted in ("head._target_=os.mkdir", "+loss={x: {_target_: os.mkdir}}"):
        (copy / "overrides.json").write_text(json.dumps([*stored, planted]))
        for where in (f"run_dir={copy}", f"resume_from={copy}"):
            code, printed = command("train", where, *([f"run_dir={tmp_path / 'b'}"] if "from" in where else []))
            assert code == 2 and "a class named by a stored file is never used" in printed


def test_divergence_names_the_commands_that_go_on(faces, finished, tmp_path, command):
    new = tmp_path / "b"
    code, printed = command("train", f"resume_from={finished}", f"run_dir={new}", "optimizer.lr=1e30")
    assert code == 2 and "not finite" in printed and "Traceback" not in printed
    assert f"train run_dir={new} optimizer.lr=1e+29\n" in printed  # it has no checkpoint yet
    code, printed = command("train", f"run_dir={new}", "optimizer.lr=0.01")
    assert code == 0 and "optimizer.lr: stored 0.05, now 0.01" in printed, printed
