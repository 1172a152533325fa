"""`facerec inspect`: what it prints, writes and answers, for sets that are right, that are not, and that are none."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.cli.commands import command as command_line
from facerec.data.records.recordio import write_record_set
from facerec.data.verification_file import write_pairs

PER_IDENTITY = (5, 1, 3)


def png(seed: int) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(seed).integers(0, 256, (32, 24, 3), dtype=np.uint8))[1].tobytes()


@pytest.fixture
def faces(tmp_path) -> Path:
    images = [[png(10 * identity + n) for n in range(number)] for identity, number in enumerate(PER_IDENTITY)]
    write_record_set(tmp_path / "faces", images, height_px=32, width_px=24)
    return tmp_path / "faces"


def test_right_set_ends_with_0_and_is_described(faces, command, tmp_path):
    code, printed = command("inspect", f"data.root={faces}", f"out={tmp_path / 'report'}", "sheet.num_identities=2")
    assert code == 0, printed
    assert "images       9 of 32 x 24 pixels, of 3 identities" in printed and "faults       0" in printed
    assert "per identity 1 to 5 images, mean 3.0, median 3\n    1: 1 ###" in printed
    about = json.loads((tmp_path / "report" / "dataset.json").read_text())
    assert about["fingerprint"] in printed and about["fingerprint_of_images"] in printed
    assert (about["num_images"], about["num_identities"], about["num_faults"]) == (9, 3, 0)
    assert about["images_per_identity"]["histogram"] == [[1, 1, 1], [2, 3, 1], [4, 7, 1]]
    assert (tmp_path / "report" / "faults.csv").read_text() == "kind,file,record,what\n"
    assert len(about["contact_sheet"]) == 2
    sheet = cv2.imread(str(tmp_path / "report" / "contact_sheet.png"))
    columns = max(PER_IDENTITY[int(name)] for name in about["contact_sheet"])
    assert sheet.shape == (2 * (20 + 34) - 2, columns * 26 - 2, 3)
    for row, name in enumerate(about["contact_sheet"]):  # one identity a row, then white
        for column in range(columns):
            cell = sheet[54 * row + 20 : 54 * row + 52, 26 * column : 26 * column + 24]
            shown = cv2.imdecode(np.frombuffer(png(10 * int(name) + column), np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(cell, shown if column < PER_IDENTITY[int(name)] else 255)
    assert cv2.imread(str(tmp_path / "report" / "images_per_identity.png")).shape[2] == 3


def test_faults_end_with_1_and_are_listed_all(faces, command, tmp_path):
    images = [[png(0)] * 15, [b"none"]]
    write_record_set(tmp_path / "bad", images, height_px=32, width_px=24)
    code, printed = command("inspect", f"data.root={tmp_path / 'bad'}", f"out={tmp_path / 'report'}")
    assert code == 1 and "Traceback" not in printed
    assert "faults       16: 14 duplicate, 1 no image, 1 empty identity" in printed
    assert printed.count("\n  /") == 5 and "  ... and 11 more" in printed  # three duplicates, and the others
    with open(tmp_path / "report" / "faults.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and rows[0]["file"] == f"{tmp_path}/bad/train.rec"
    assert rows[0]["record"].startswith("record 16 (byte ") and rows[0]["kind"] == "no image"
    about = json.loads((tmp_path / "report" / "dataset.json").read_text())
    assert (about["num_usable"], about["num_faults"], about["faults"]["duplicate"]) == (15, 16, 14)
    write_record_set(tmp_path / "worse", [[b"none"]])
    assert command("inspect", f"data.root={tmp_path / 'worse'}", f"out={tmp_path / 'report'}")[0] == 1
    assert not (tmp_path / "report" / "contact_sheet.png").exists()
    code, printed = command("inspect", f"data.root={faces}", f"out={tmp_path / 'report'}")  # nothing of it is left
    assert code == 0 and (tmp_path / "report" / "faults.csv").read_text() == "kind,file,record,what\n"


def test_nothing_is_written_without_out(faces, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, printed = command("inspect", f"data.root={faces}")
    assert code == 0 and "\nwritten " not in printed and sorted(tmp_path.rglob("*")) == before


def test_verification_set(command, tmp_path):
    write_pairs(tmp_path / "own.bin", [png(number) for number in range(40)], [True, False] * 10)
    code, printed = command(
        "inspect", f"data.root={tmp_path / 'own.bin'}", f"out={tmp_path / 'report'}", "sheet.images_per_identity=4"
    )
    assert code == 0 and "40 of 32 x 24 pixels, in 10 positive and 10 negative pairs" in printed
    about = json.loads((tmp_path / "report" / "dataset.json").read_text())
    assert about["contact_sheet"][0] == "positive pairs 0, 2" and about["contact_sheet"][5] == "negative pairs 1, 3"
    sheet = cv2.imread(str(tmp_path / "report" / "contact_sheet.png"))
    assert sheet.shape == (10 * (20 + 34) - 2, 4 * 26 - 2, 3)  # each row with its title
    shown = cv2.imdecode(np.frombuffer(png(5), np.uint8), cv2.IMREAD_COLOR)  # of pair 2, at the end of the first row
    np.testing.assert_array_equal(sheet[20:52, 3 * 26 :], shown)
    assert command("inspect", f"data.root={tmp_path / 'own.bin'}", "num_folds=20")[0] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["data.root=/nowhere"], "/nowhere: there is no such folder"),
        (["data.root=/nowhere.bin"], "/nowhere.bin: cannot be opened"),
        (["data.root=/nowhere.csv"], "/nowhere.csv: there is no such folder"),
        (["data.root=3"], "data.root=3; expected the path of one set"),
        (["num_threads=0"], "num_threads=0; expected 1 or more"),
        (["input.width_px=0"], "input.width_px=0; expected 1 or more"),
        (["input.mean=3"], "input.mean"),
        (["num_folds=1"], "num_folds=1; expected 2 or more"),
        (["sheet.num_identities=0"], "sheet.num_identities=0; expected 1 or more"),
        (["sheet.images_per_identity=ten"], "sheet.images_per_identity='ten' is text"),
        (["sheet.seed=-1"], "sheet.seed=-1; expected 0 or more"),
        (["outt=x"], "outt: no such key"),
        (["+data.merge=by_name"], "data.merge"),
        (["out=notes.txt"], "out=notes.txt: the folder cannot be made"),
    ],
)
def test_what_cannot_work_is_refused(given, message, faces, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("in the way")
    code, printed = command("inspect", f"data.root={faces}", f"out={tmp_path / 'report'}", *given)
    assert code == 2 and message in printed and "Traceback" not in printed and printed.count("error: ") == 1
    assert not (tmp_path / "report").exists()


def test_report_is_not_written_among_the_identities(faces, command, tmp_path):
    (tmp_path / "crops" / "Ann").mkdir(parents=True)
    (tmp_path / "crops" / "Ann" / "a.png").write_bytes(png(0))
    code, printed = command("inspect", f"data.root={tmp_path / 'crops'}", f"out={tmp_path / 'crops' / 'report'}")
    assert code == 2 and "where every folder is an identity" in printed
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["Ann"]


def folders_of(root: Path, *, size_px: int) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8))
    return root


def test_files_of_others_are_not_written_over(tmp_path, command):
    crops = folders_of(tmp_path / "crops", size_px=112)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dataset.json").write_text('"my own"')
    code, printed = command("inspect", f"data.root={crops}", f"out={tmp_path / 'mine'}")
    assert code == 2 and "has files that facerec inspect did not write" in printed
    assert (tmp_path / "mine" / "dataset.json").read_text() == '"my own"'
    code, printed = command("inspect", f"data.root={crops}", f"out={crops}")
    assert code == 2 and "where every folder is an identity" in printed
    for _ in range(2):  # the second time over the first report
        assert command("inspect", f"data.root={crops}", f"out={tmp_path / 'report'}")[0] == 0


def test_photos_that_are_not_aligned_are_recognised(tmp_path, command):
    photos = folders_of(tmp_path / "photos", size_px=130)
    code, printed = command("inspect", f"data.root={photos}")
    assert code == 1 and f"align photos={photos} detector.weights=DETECTOR.onnx" in printed
    for number, path in enumerate(photos.rglob("*.png")):
        cv2.imwrite(str(path), np.zeros((200 + number, 120, 3), dtype=np.uint8))
    code, printed = command("inspect", f"data.root={photos}")
    assert code == 1 and f"align photos={photos} " in printed and "input.height_px=2" not in printed.split("next ")[-1]


def test_crops_of_another_size_pass_with_the_keys_that_are_named(tmp_path, command):
    crops = folders_of(tmp_path / "crops", size_px=130)
    code, printed = command("inspect", f"data.root={crops}")
    assert code == 1 and "images       4 of 112 x 112 pixels" in printed and "4 of them cannot be used" in printed
    named = "input.height_px=130 input.width_px=130"
    assert f"if these are aligned crops, of 130 x 130 pixels:\n             {command_line('inspect')} " in printed
    assert f"inspect data.root={crops} {named}\n" in printed
    code, printed = command("inspect", f"data.root={crops}", f"out={tmp_path / 'report'}", *named.split())
    assert code == 0 and f"facerec train takes crops of this size with {named}" in printed, printed
    assert cv2.imread(str(tmp_path / "report" / "contact_sheet.png")).shape == (2 * (20 + 132) - 2, 2 * 132 - 2, 3)


def test_pairs_are_held_to_the_keys_where_they_are_given(command, tmp_path):
    write_pairs(tmp_path / "own.bin", [png(number) for number in range(40)], [True, False] * 10)
    code, printed = command("inspect", f"data.root={tmp_path / 'own.bin'}", "input.height_px=32", "input.width_px=28")
    assert code == 1 and "faults       40: 40 size" in printed and "align photos" not in printed
    assert f"inspect data.root={tmp_path / 'own.bin'} input.height_px=32 input.width_px=24" in printed
    code, printed = command("inspect", f"data.root={tmp_path / 'own.bin'}", "input.height_px=32", "input.width_px=24")
    assert code == 0
