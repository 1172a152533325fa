"""Crops of 48 x 40 pixels, from photos to a cleaned set: each verb takes what the one before has written."""

import csv
import json
from pathlib import Path

import cv2
import pytest

from facerec.align.photo_table import LANDMARK_COLUMNS
from facerec.data.verification_file import read_pairs
from facerec.synthetic.source import SyntheticFaces

SIZE = ["input.height_px=48", "input.width_px=40"]
NUM_IDENTITIES, PER_IDENTITY = 8, 3
TRAIN = [
    "data=on_disk", "data.global_batch_size=4", "backbone.width_multiplier=0.25", "neck.embedding_dim=16",
    "trainer.num_steps=2", "trainer.num_threads=1", "trainer.device=cpu",
    "loader.num_workers=0", "logging.tensorboard=false", "eval.num_folds=2",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path) -> Path:
    """`photos.csv`: synthetic photos and their landmarks."""
    faces = SyntheticFaces(seed=0)
    with open(tmp_path / "photos.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "identity", *LANDMARK_COLUMNS])
        for identity in range(NUM_IDENTITIES):
            for number in range(PER_IDENTITY):
                photo, landmarks = faces.photo(identity, number)
                cv2.imwrite(str(tmp_path / f"{identity}_{number}.png"), photo[:, :, ::-1])
                table.writerow([f"{identity}_{number}.png", f"id{identity}", *landmarks.reshape(-1).tolist()])
    return tmp_path / "photos.csv"


def test_crops_of_another_size_go_from_photos_to_a_cleaned_set(photos, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("align", f"landmarks={photos}", "out=crops", "size=[48,40]", "format=png")[0] == 0
    code, printed = command("inspect", "data.root=crops", *SIZE, "out=report")
    assert code == 0 and "24 of 48 x 40 pixels, of 8 identities" in printed, printed
    code, printed = command("pack", "data.root=crops", *SIZE, "out=faces", "split.val_identities=4", "pairs=auto")
    assert code == 0 and f"data.root=faces {' '.join(SIZE)}\n" in printed, printed
    assert (tmp_path / "faces" / "property").read_text() == "4,48,40\n"
    assert read_pairs(tmp_path / "faces" / "val.bin").decode(0).shape == (48, 40, 3)
    code, printed = command("train", "data.root=faces", "run_dir=run", *TRAIN, *SIZE)
    assert code == 0, printed
    card = json.loads(next((tmp_path / "run" / "checkpoints").glob("*/model.json")).read_text())
    assert (card["input_spec"]["height_px"], card["input_spec"]["width_px"]) == (48, 40)
    sheet = cv2.imread(str(tmp_path / "run" / "samples.png"))
    assert sheet.shape == (50 - 2, 4 * 42 - 2, 3)
    code, printed = command("evaluate", "model=run", "num_folds=2", "baselines=true", "device=cpu")
    assert code == 0 and "val: model" in printed, printed
    look = ["clean", "data.root=crops", "out=cleaning", *SIZE]
    code, printed = command(*look, "model=run", "device=cpu", "against=[faces/val.bin]", "min_score=0.01")
    assert code == 0 and "searched     24 images of 8 identities" in printed, printed
    assert f"clean data.root=crops out=cleaning {' '.join(SIZE)} apply=true" in printed
    rows = (tmp_path / "cleaning" / "proposals.csv").read_text().splitlines()
    (tmp_path / "cleaning" / "proposals.csv").write_text(rows[0] + "\n")
    code, printed = command(*look, "apply=true")
    assert code == 0 and f"cleaning/cleaned {' '.join(SIZE)}" in printed, printed
    assert (tmp_path / "cleaning" / "cleaned" / "property").read_text() == "8,48,40\n"


def test_each_verb_names_image_size_and_keys_where_they_do_not_match(photos, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("align", f"landmarks={photos}", "out=crops", "size=[48,40]", "format=png")[0] == 0
    assert command("pack", "data.root=crops", *SIZE, "out=faces", "split.val_identities=4", "pairs=auto")[0] == 0
    assert command("train", "data.root=photos.csv", "run_dir=run", "eval.sets=[faces/val.bin]", *TRAIN, *SIZE)[0] == 0
    crop = "crops/id0/0_0.png: the image is 48 x 40 pixels; expected 112 x 112. If it is an aligned crop, set"
    stated = "faces/property: says that the crops are 48 x 40 pixels; expected 48 x 32 (input.height_px=48"
    wrong = ["input.height_px=48", "input.width_px=32"]
    for message, given in (
        ("the image is 48 x 40 pixels; expected 112 x 112.", ["train", "data.root=crops", "run_dir=a", *TRAIN]),
        (crop, ["pack", "data.root=crops", "out=b"]),
        (stated, ["train", "data.root=faces", "run_dir=c", *TRAIN, *wrong]),
        (stated, ["pack", "data.root=faces", "out=d", *wrong]),
        ("model=run: the model takes 48 x 40 pixels, but the crops are expected to be 112 x 112",
         ["clean", "data.root=crops", "model=run", "out=e"]),
        ("auto_pairs.hard_negatives: the model takes 48 x 40 pixels",
         ["pack", "data.root=photos.csv", "out=f", "split.val_identities=4", "pairs=auto",
          "auto_pairs.hard_negatives=run"]),
        ("faces/val.bin, image 0: the image is 48 x 40 pixels, but the model takes 112 x 112",
         ["train", "data.root=photos.csv", "run_dir=g", "eval.sets=[faces/val.bin]", *TRAIN]),
    ):  # fmt: skip
        code, printed = command(*given)
        assert code == 2 and message in printed and "Traceback" not in printed, (given, printed)
        assert "input.height_px=48 input.width_px=40" in printed
    assert not {"b", "c", "d", "e", "f"}.intersection(path.name for path in tmp_path.iterdir())
    assert command("pack", "data.root=photos.csv", "out=usual", "split.val_identities=4", "pairs=auto")[0] == 0
    code, printed = command("evaluate", "model=run", "sets=[usual/val.bin]", "baselines=true", "num_folds=2")
    assert code == 2 and "usual/val.bin, image 0: the image is 112 x 112 pixels, but the model takes 48 x 40" in printed


def test_synthetic_faces_are_drawn_in_the_size_that_is_asked_for(command, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "cache"))
    few = [f"data.source.{key}" for key in ("num_train_identities=4", "images_per_identity=2", "num_test_pairs=20")]
    given = [one for one in TRAIN if one != "data=on_disk"]
    code, printed = command(
        "train", *given, *few, "data.source.num_test_identities=20", *SIZE, f"run_dir={tmp_path / 'run'}"
    )
    assert code == 0, printed
    (folder,) = (tmp_path / "cache").glob("synthetic-*")
    assert folder.name.endswith("-48x40-px") and (folder / "property").read_text() == "4,48,40\n"
