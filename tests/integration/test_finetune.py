"""Fine-tuning through the command line: a trained network goes on with new identities."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import facerec
from facerec.cli.main import main
from facerec.data.records.recordio import write_record_set
from facerec.data.verification_file import write_pairs
from facerec.evaluation.verification import VerificationBenchmark
from facerec.runs.checkpoints import step_directories
from facerec.runs.run_log import read_metrics
from tests.integration.training_runs import (
    SIZE_PX,
    encoded_images,
    result_bits,
    state_tensors,
    tiny_overrides,
    write_faces,
)

SHORT = ["trainer.num_steps=8", "trainer.margin_ramp_epochs=0", "eval.every_epochs=null", "eval.num_folds=2"]


@pytest.fixture
def train(command):
    """`train(overrides)` trains here: (exit code, what was printed)."""
    return lambda overrides: command("train", *overrides)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A run on other identities. Not to be changed."""
    folder = tmp_path_factory.mktemp("pretrained")
    num_threads = torch.get_num_threads()
    main(["train", *tiny_overrides(write_faces(folder / "faces", seed=2), folder / "run", *SHORT)])
    torch.set_num_threads(num_threads)
    return folder / "run"


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces") / "set")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "fake.bin"
    images = [image for both in encoded_images(seed=3, num_identities=24, per_identity=2) for image in both]
    write_pairs(path, images, [number % 2 == 0 for number in range(24)])
    return path


def tuning(faces: Path, run_dir: Path, pretrained: Path, *more: str) -> list[str]:
    return tiny_overrides(faces, run_dir, *SHORT, f"init_from={pretrained}", "head.init=class_mean", *more)


def test_step_0_is_the_starting_model_and_the_end_is_the_moving_average(faces, pretrained, benchmark, tmp_path, train):
    run_dir = tmp_path / "run"
    code, printed = train(
        tuning(faces, run_dir, pretrained, f"eval.sets=[{benchmark}]", "trainer.ema_decay=0.9", "optimizer.lr=0.5")
    )
    assert code == 0, printed
    assert "class centres: the means of 48 images of 6 identities" in printed
    lines = [line for line in read_metrics(run_dir / "metrics.jsonl") if "eval/fake/accuracy" in line]
    assert [line["step"] for line in lines] == [0, 8]
    for line, model in zip(lines, (pretrained, run_dir), strict=True):
        embed = facerec.load(str(model), device="cpu").embed
        for metric in VerificationBenchmark(path=str(benchmark), num_folds=2).evaluate(embed):
            found = line[f"eval/fake/{metric.name}"]
            assert found == pytest.approx(metric.value, abs=1e-6), (line["step"], metric.name)
    assert lines[0]["eval/fake/auc"] != lines[1]["eval/fake/auc"]
    assert json.loads((run_dir / "result.json").read_text())["metrics"]["eval/fake/auc"] == lines[1]["eval/fake/auc"]
    assert (run_dir / "curves.png").stat().st_size > 10_000


def test_evaluation_at_the_start_follows_init_from_or_its_own_key(faces, pretrained, benchmark, tmp_path, train):
    sets = f"eval.sets=[{benchmark}]"
    for name, overrides, expected in (
        ("off", tuning(faces, tmp_path / "off", pretrained, sets, "eval.at_start=false"), [8]),
        ("on", tiny_overrides(faces, tmp_path / "on", *SHORT, sets, "eval.at_start=true"), [0, 8]),
        ("fresh", tiny_overrides(faces, tmp_path / "fresh", *SHORT, sets), [8]),
    ):
        code, printed = train([*overrides, "logging.every_steps=8"])
        assert code == 0, printed
        lines = read_metrics(tmp_path / name / "metrics.jsonl")
        assert [line["step"] for line in lines if "eval/fake/auc" in line] == expected


def test_few_steps_and_identities_with_one_image_are_said_before_the_first_step(pretrained, tmp_path, train):
    faces, images = tmp_path / "faces", encoded_images(seed=1)
    write_record_set(faces, [images[0], *(one[:1] for one in images[1:])], height_px=SIZE_PX, width_px=SIZE_PX)
    epochs = ["data.global_batch_size=4", "trainer.num_steps=null", "trainer.num_epochs=2"]
    code, printed = train(tuning(faces, tmp_path / "run", pretrained, *epochs))
    assert code == 0, printed
    assert "6 optimizer steps of 4 images, 1.846 epochs; 5 of 6 identities have one image\n" in printed
    assert "6 optimizer steps are too few to learn from: trainer.num_epochs=31 makes 100;" in printed
    assert printed.index("optimizer steps of") < printed.index("first loss")


def test_class_means_start_far_below_random_centres(faces, pretrained, tmp_path, train):
    losses = {}
    for init in ("random", "class_mean"):
        run_dir = tmp_path / init
        code, printed = train(tuning(faces, run_dir, pretrained, f"head.init={init}", "freeze.batch_norm=true"))
        assert code == 0, printed
        losses[init] = [line["train/loss"] for line in read_metrics(run_dir / "metrics.jsonl")]
    assert losses["class_mean"][0] < 0.8 * losses["random"][0]


def digests(run_dir: Path) -> dict[str, str]:
    assert step_directories(run_dir / "checkpoints")[-1].name == "step-00000008"
    return result_bits(run_dir, step=8)


@pytest.mark.parametrize("kept", [4, 6])  # the backbone thaws at step 6
def test_same_command_goes_on_in_and_after_the_frozen_phase_with_the_same_bits(
    kept, faces, pretrained, tmp_path, train
):
    more = [
        "freeze.epochs.backbone=1", "trainer.ema_decay=0.9", "optimizer.lr_factors.backbone=0.1",
        "checkpoint.every_steps=2", "checkpoint.keep_last=9",
    ]  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    code, printed = train(tuning(faces, whole, pretrained, *more))
    assert code == 0 and "backbone is frozen until step 6" in printed and "step 6: backbone is thawed" in printed
    shutil.copytree(whole, stopped)
    (stopped / "result.json").unlink()
    for path in step_directories(stopped / "checkpoints"):
        if int(path.name[5:]) > kept:
            shutil.rmtree(path)
    gone = str(tmp_path / "moved_away")  # the weights are not read again
    config = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(config.replace(f"init_from: {pretrained}", f"init_from: {gone}"))
    code, printed = train(tuning(faces, stopped, Path(gone), *more))
    assert code == 0 and f"step {kept} of 8" in printed and "class centres" not in printed
    assert ("backbone is frozen until step 6" in printed) == (kept < 6)
    assert digests(stopped) == digests(whole)


def test_network_of_another_depth_or_width_and_onnx_are_refused_with_the_way_out(faces, pretrained, tmp_path, train):
    (tmp_path / "w600k_r50.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    for more, says in (
        ([f"init_from={pretrained}", "backbone=iresnet34"], "backbone=iresnet18 backbone.width_multiplier=0.25\n"),
        ([f"init_from={pretrained}", "backbone.width_multiplier=0.5"], "backbone.width_multiplier=0.25\n"),
        ([f"init_from={tmp_path}/w600k_r50.onnx"], "folded batch normalisation into the convolutions"),
    ):
        code, printed = train(tuning(faces, tmp_path / "run", pretrained, *more))
        assert code == 2 and says in printed and "Traceback" not in printed
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["init_from=null"], "error: head.init=class_mean without init_from"),
        (["head.init=mean"], "head.init='mean' is text; expected one of 'random', 'class_mean'"),
        (["+freeze.epochs.bakbone=1"], "freeze.epochs.bakbone: no parameter of this run .*did you mean backbone?"),
        (["+freeze.epochs={backbone.layr1: 1}"], "did you mean backbone.layer1?"),
        (["freeze.epochs.backbone=-1"], "freeze.epochs.backbone=-1.0; expected 0 or more epochs"),
        (["freeze.epochs.backbone=soon"], "freeze.epochs='soon' is text; expected a number"),
        (["freeze.epochs={backbone:null,neck:null,head:1}"], "leaves nothing to train in the first step"),
        (["+optimizer.lr_factors.bone=0.1"], "optimizer.lr_factors.bone: no parameter"),
        (["optimizer.lr_factors.head=-1"], "optimizer.lr_factors.head holds -1.0"),
        (["trainer.ema_decay=1"], "trainer.ema_decay=1.0; expected a number between 0 and 1"),
        (["eval.at_start=maybe"], "eval.at_start='maybe' is text; expected true or false"),
    ],
)
def test_settings_that_cannot_work_are_refused(more, says, faces, pretrained, tmp_path, train):
    code, printed = train(tuning(faces, tmp_path / "run", pretrained, *more))
    assert code == 2 and "Traceback" not in printed
    assert re.search(says.replace("?", r"\?"), printed), printed
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_experiment_on_real_photos_starts_at_the_class_means(real_data, tmp_path, train):
    photos = [f"data.root={real_data}/celeba_wild", "data.first_samples=64", "eval.sets=[]", "debug=one_step"]
    photos += ["trainer.num_threads=1", "trainer.device=cpu", "loader.num_workers=0"]
    code, printed = train(["experiment=celeba_wild_ir18s_arcface", *photos, f"run_dir={tmp_path}/before"])
    assert code == 0, printed
    run_dir = tmp_path / "after"
    code, printed = train(["experiment=finetune", f"init_from={tmp_path}/before", *photos, f"run_dir={run_dir}"])
    assert code == 0, printed
    found = re.search(r"class centres: the means of 64 images of (\d+) identities; (\d+) without images", printed)
    num_identities, num_random = map(int, found.groups())
    state = state_tensors(step_directories(run_dir / "checkpoints")[-1])
    centres = state["objective.head.centres.weight"].norm(dim=1)
    assert int((centres > 0.5).sum()) == num_identities and num_identities + num_random == 299
    before = load_file(tmp_path / "before/checkpoints/step-00000001/model.safetensors")
    after = load_file(run_dir / "checkpoints/step-00000001/model.safetensors")
    assert torch.equal(after["layer4.1.conv2.weight"], before["layer4.1.conv2.weight"])  # the backbone stands still
    assert not torch.equal(after["fc.weight"], before["fc.weight"])
