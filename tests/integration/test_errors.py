"""What a user does wrong, or a disk: a named error, exit code 2, no traceback; it says which file, record or key."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facerec.cli.main import main
from facerec.data.records.recordio import frame, pack, write_record_set
from facerec.data.verification_file import write_pairs
from tests.integration.training_runs import (
    SIZE_PX,
    encoded_images,
    environment,
    flip_byte,
    tiny_overrides,
    write_faces,
)

SHORT = ["trainer.num_steps=2", "checkpoint.every_steps=1"]


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """`refused("train", ...)` runs the command line here, and returns the message of its refusal."""
    num_threads = torch.get_num_threads()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(argv)
        printed = capsys.readouterr()
        assert stop.value.code == 2
        assert "Traceback" not in printed.out + printed.err
        (start,) = re.finditer(r"^error: ", printed.err, flags=re.MULTILINE)
        return printed.err[start.end() :].strip()

    yield run
    torch.set_num_threads(num_threads)


@pytest.fixture
def train(refused, tmp_path):
    """`train(data, ...)` trains for two steps in `tmp_path / "run"`; returns the message of its refusal."""
    return lambda data, *more: refused("train", *tiny_overrides(data, tmp_path / "run", *SHORT, *more))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces") / "set")


@pytest.fixture
def faces(pristine, tmp_path) -> Path:
    """A set to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "faces"))


def trained_run(data: Path, run_dir: Path) -> list[Path]:
    """A run of two steps; its checkpoints."""
    main(["train", *tiny_overrides(data, run_dir, *SHORT)])
    checkpoints = sorted((run_dir / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step-00000001", "step-00000002"]
    return checkpoints


# --- data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_does_not_decode(workers, tmp_path, train):
    identities = encoded_images(seed=1)
    identities[2][3] = b"this is no image"
    write_record_set(tmp_path / "faces", identities, height_px=SIZE_PX, width_px=SIZE_PX)
    message = train(tmp_path / "faces", "trainer.num_steps=12", f"loader.num_workers={workers}")
    assert re.match(rf"{tmp_path}/faces/train\.rec, record 20 \(byte \d+\): 16 bytes that do not decode", message)


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_truncated_record_file(kept, faces, train):
    rec = faces / "train.rec"
    rec.write_bytes(rec.read_bytes()[: int(rec.stat().st_size * kept)])
    message = train(faces)
    assert message.startswith(f"{rec}: the file has {rec.stat().st_size} bytes, but its last record")


def test_index_of_another_set(faces, tmp_path, train):
    others = write_faces(tmp_path / "others", seed=2)
    shutil.copy(others / "train.idx", faces / "train.idx")
    assert train(faces).startswith(f"{faces}/train.rec")


def test_missing_index(faces, train):
    (faces / "train.idx").unlink()
    assert f"{faces}/train.idx: cannot be opened" in train(faces)


def test_label_gap(tmp_path, train):
    folder = tmp_path / "faces"
    folder.mkdir()
    images = [pack(float(label), id=key, image=image) for key, (label, image) in enumerate(labelled_images((0, 1, 3)))]
    offset = 0
    with open(folder / "train.rec", "wb") as rec, open(folder / "train.idx", "w") as idx:  # im2rec's layout
        for key, payload in enumerate(images):
            idx.write(f"{key}\t{offset}\n")
            offset += rec.write(frame(payload))
    (folder / "property").write_text(f"4,{SIZE_PX},{SIZE_PX}\n")
    assert train(folder).startswith(
        f"{folder}/train.rec: no image has the label 2; expected 0 .. 3 without a gap. facerec pack data.root={folder} "
        f"out={folder}_renumbered writes the same images"
    )


def labelled_images(labels: tuple[int, ...]) -> list[tuple[int, bytes]]:
    return [(label, image) for label in labels for image in encoded_images(seed=label, num_identities=1)[0]]


def test_empty_folder(tmp_path, train):
    (tmp_path / "empty").mkdir()
    assert train(tmp_path / "empty").startswith(f"{tmp_path}/empty: no folder in it. Expected one folder of aligned")


def test_empty_identity_folder(tmp_path, train):
    (tmp_path / "faces" / "ada").mkdir(parents=True)
    (tmp_path / "faces" / "ada" / "notes.txt").write_text("no image")
    assert train(tmp_path / "faces").startswith(f"{tmp_path}/faces/ada: no image in it")


def test_folder_that_is_not_there(tmp_path, train):
    assert train("~/nowhere").startswith(f"{tmp_path}/home/nowhere: there is no such folder")
    assert not (tmp_path / "run").exists()


def test_crops_of_another_size(faces, train):
    assert "property: says that the crops are 32 x 32 pixels; expected 64 x 64 (input.height_px=64" in train(
        faces, "input.height_px=64", "input.width_px=64"
    )
    (faces / "property").unlink()
    assert "the image is 32 x 32 pixels; expected 64 x 64. If it is an aligned crop, set input.height_px=32" in train(
        faces, "input.height_px=64", "input.width_px=64"
    )


# --- benchmarks: refused before the first step -----------------------------------------------------------------------


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


def plant(path: Path, trace: Path) -> None:
    path.write_bytes(pickle.dumps(([Planted(f"touch {trace}")], [True])))
    pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have worked
    trace.unlink()


@pytest.mark.parametrize("named", [True, False])
def test_benchmark_that_names_os_system_is_refused_with_nothing_executed(named, faces, tmp_path, train):
    evil, trace = faces / "lfw.bin", tmp_path / "was_here"
    plant(evil, trace)
    message = train(faces, f"eval.sets=[{evil}]" if named else "eval.sets=null")
    assert re.match(rf"{evil}: its pickle names \w+\.system, which no verification file needs", message)
    assert not trace.exists() and not (tmp_path / "run" / "metrics.jsonl").exists()


def test_benchmark_that_names_os_system_is_refused_by_evaluate(faces, tmp_path, refused):
    (_, checkpoint) = trained_run(faces, tmp_path / "run")
    evil, trace = tmp_path / "lfw.bin", tmp_path / "was_here"
    plant(evil, trace)
    message = refused("evaluate", f"model={checkpoint}", f"sets=[{evil}]", "device=cpu")
    assert re.match(rf"{evil}: its pickle names \w+\.system", message) and not trace.exists()


def benchmark(path: Path, num_pairs: int) -> Path:
    images = [
        image for identity in encoded_images(seed=3, num_identities=num_pairs, per_identity=2) for image in identity
    ]
    write_pairs(path, images, [i % 2 == 0 for i in range(num_pairs)])
    return path


def test_benchmarks_that_cannot_be_scored_are_refused_before_the_first_step(faces, tmp_path, train):
    truncated, small = benchmark(tmp_path / "cut.bin", 20), benchmark(tmp_path / "small.bin", 12)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    first, second = benchmark(tmp_path / "cfp_fp.bin", 20), benchmark(tmp_path / "other" / "cfp_fp.bin", 20)
    for sets, says in (
        (f"{tmp_path}/absent.bin", f"eval.sets: {tmp_path}/absent.bin does not exist"),
        (faces, f"eval.sets: {faces} is a training set; expected a verification file (.bin), or a folder of them"),
        (truncated, f"{truncated}: is not a verification file, or is damaged or incomplete"),
        (small, f"{small}: 12 pairs (6 of one person, 6 of two) in 10 contiguous folds"),
        (f"{first},{second}", f"eval: {first} and {second} would both be logged as eval/cfp_fp"),
    ):
        assert train(faces, f"eval.sets=[{sets}]").startswith(says)
        assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_figures_of_other_sets_stay_until_the_model_is_another_one(faces, tmp_path, command):
    def evaluated(model: Path, *sets: Path) -> dict[str, Any]:
        given = ",".join(map(str, sets))
        code, printed = command("evaluate", f"model={model}", f"sets=[{given}]", "device=cpu", f"out={out}")
        assert code == 0, printed
        return json.loads(out.read_text())["sets"]

    earlier, later = trained_run(faces, tmp_path / "run")
    first, second = benchmark(tmp_path / "sets" / "first.bin", 20), benchmark(tmp_path / "sets" / "second.bin", 20)
    out = tmp_path / "deep" / "figures.json"
    one = evaluated(later, first)
    assert evaluated(later, second)[str(first)] == one[str(first)]
    assert evaluated(earlier, second).keys() == {str(second)}
    assert evaluated(earlier, first.parent).keys() == {str(first), str(second)}  # a folder: all in it
    for damaged in ("[]", out.read_text().partition('"sets"')[0] + '"sets": null}'):
        out.write_text(damaged)
        assert evaluated(earlier, first).keys() == {str(first)}


# --- checkpoints and models -------------------------------------------------------------------------------------------


def test_flipped_byte_in_every_checkpoint(faces, tmp_path, refused, train):
    checkpoints = trained_run(faces, tmp_path / "run")
    for path in checkpoints:
        flip_byte(path / "model.safetensors")
    message = train(faces)
    assert message.startswith(
        f"{tmp_path}/run: every checkpoint in it is damaged (see the warnings above). Move the folder away"
    )
    for path in checkpoints:
        message = refused("evaluate", f"model={path}", "sets=[x.bin]")
        assert message.startswith(f"{path}/model.safetensors is not what was written (its SHA-256 differs)")
    message = refused("evaluate", f"model={tmp_path}/run", "sets=[x.bin]")
    assert all(f"skipped: {path}/model.safetensors" in message for path in checkpoints)
    for path in checkpoints:
        assert path.exists()  # nothing was thrown away


def test_warnings_above_name_every_damaged_file(faces, tmp_path, capsys):
    for path in trained_run(faces, tmp_path / "run"):
        flip_byte(path / "manifest.json")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", *tiny_overrides(faces, tmp_path / "run", *SHORT)])
    printed = capsys.readouterr().err
    assert printed.count("skipped: ") == 2 and printed.index("skipped: ") < printed.index("error: ")


def test_initial_weights_that_are_not_there_or_of_another_network(faces, tmp_path, train):
    torch.save({"conv1.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "other.pt")
    assert f"{tmp_path}/absent.pt: no such file" in train(faces, f"init_from={tmp_path}/absent.pt")
    assert f"{tmp_path}/other.pt: not an IResNet" in train(faces, f"init_from={tmp_path}/other.pt")
    assert "resume=required, but" in train(faces, "resume=required")


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("head.m2=O.45", "head.m2='O.45' is text; expected a number"),
        ("+head.m3x=1", "head.m3x: MarginHead takes no such argument; did you mean m3?"),
        ("experiment=typo", "experiment=typo: no such option"),
        ("heads.m2=0.4", "heads.m2: no such key"),
        ("data.root=a=b", "data.root=a=b: the value does not parse"),
        ("data.global_batch_size=many", "data.global_batch_size='many' is text"),
        ("+data.repeat=true", "data.repeat: nothing reads this key"),
        ("seed=-1", "seed=-1; expected 0 .. "),
        ("trainer.micro_batch_size=3", "trainer.micro_batch_size=3 does not divide data.global_batch_size=8"),
        ("trainer.micro_batch_size=1", "one sample per forward pass"),
        ("trainer.num_epochs=3", "trainer.num_epochs=3.0, trainer.num_steps=2; set exactly one of the two"),
        ("trainer.device=tpu", "device=tpu cannot be used"),
        ("optimizer.lr=-0.1", "optimizer.lr holds -0.1"),
        ("logging.every_steps=0", "logging.every_steps=0"),
        ("eval.every_steps=5", "eval.every_steps=5 and eval.every_epochs=1.0 are both set"),
        ("checkpoint.every_epochs=1", "checkpoint.every_steps=1 and checkpoint.every_epochs=1.0 are both set"),
        ("backbone.width_multiplier=0.125", "backbone.width_multiplier=0.125; expected at least 0.25"),
        ("augment.transforms=[{HorizontalFlop:{}}]", "neither albumentations nor facerec has a transform"),
        (
            "augment.transforms=[{RandomCrop:{height:64,width:64}}]",
            "augment.transforms[0] (RandomCrop) fails on an image",
        ),
        (
            "augment.transforms=[{Resize:{height:16,width:16}}]",
            "augment.transforms[0] (Resize) makes uint8 (16, 16, 3)",
        ),
        ("augment.transforms=[{ToGray:{prob:0.1}}]", "augment.transforms[0]: ToGray takes no argument 'prob'"),
        ("augment.transforms=[HorizontalFlip]", "augment.transforms='HorizontalFlip' is text; expected a mapping"),
        ("augment.on_device=[{CLAHE:{}}]", "augment.on_device[0]: no transform 'CLAHE' on the device"),
        ("augment.on_device=[{Erasing:{fill:300}}]", "augment.on_device[0]: Erasing.fill=300; expected a number"),
        ("augment.on_device=[{HorizontalFlip:{}}]", "HorizontalFlip is in augment.transforms and in augment.on_de"),
        ("logging.samples_every_steps=0", "logging.samples_every_steps=0; expected 1 or more, or null"),
        ("resume=maybe", "resume='maybe'; expected auto, never or required"),
    ],
)
def test_configuration_that_cannot_work(override, says, pristine, tmp_path, train):
    assert says in train(pristine, override)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_process_ends_with_2_and_one_message(tmp_path):
    command = [sys.executable, "-m", "facerec", "train", "head.m2=O.45"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr == "error: head.m2='O.45' is text; expected a number (float)\n"
