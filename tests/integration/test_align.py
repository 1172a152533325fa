"""`facerec align` as a user runs it: good input, bad input, and a process that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.align.photo_table import LANDMARK_COLUMNS, read_photo_table
from facerec.align.similarity import TEMPLATE_112
from tests.unit.align.tiny_detectors import landmarks_at, white_squares, write_scrfd, write_yunet

TEN = "69 39 106 43 77 72 73 82 108 84"
CELEBA_HEADER = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)
OVERRIDES = ["detector.longest_side_px=160", "detector.refine=false", "num_threads=2"]


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Two people, and one photo without a face; with files beside it, in the folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    for name, places in {
        "Ann/1.png": [(32, 24)], "Ann/2.png": [(48, 32), (112, 48)], "Ann/none.png": [], "Bob/1.png": [(72, 40)],
    }.items():  # fmt: skip
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), white_squares(96, 160, *places))
    write_yunet(tmp_path / "yunet.onnx")
    write_scrfd(tmp_path / "scrfd.onnx")
    (tmp_path / "boxes.csv").write_text(
        "path,identity,box_x,box_y,box_width,box_height\nAnn/1.png,Ann,24,16,24,32\nAnn/2.png,Ann,104,40,24,32\n"
    )
    (tmp_path / "marks.csv").write_text(
        f"path,identity,{','.join(LANDMARK_COLUMNS)}\nAnn/1.png,A,{TEN.replace(' ', ',')}\n"
    )
    (tmp_path / "names.txt").write_text("Ann/1.png 17\nBob/1.png 4\n")
    (tmp_path / "celeba.txt").write_text(f"1\n{CELEBA_HEADER}\nAnn/1.png {TEN}\n")
    return tmp_path / "photos"


def written(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.mark.parametrize("weights", ["yunet.onnx", "scrfd.onnx"])
def test_detector_aligns_a_folder_and_reports(weights, photos, command, tmp_path):
    given = ["align", "photos=photos", f"detector.weights={weights}", "out=crops", *OVERRIDES]
    code, printed = command(*given)
    assert code == 0, printed
    assert "aligned      3 of 4 faces, in crops\n" in printed and "identities   2\n" in printed
    assert "rejected     1 no_face; listed in crops/report.csv" in printed
    assert "inspect data.root=crops out=crops_report\n" in printed
    report = (tmp_path / "crops" / "report.csv").read_text().splitlines()
    assert report[1:] == [
        f'{photos}/Ann/none.png,Ann,no_face,"the detector finds no face; '
        'searched with a longest side of 160, 80 pixels, in all quarter turns"'
    ]
    assert sorted(path.name for path in (tmp_path / "crops" / "Ann").iterdir()) == ["1.jpg", "2.jpg"]
    found = read_photo_table(tmp_path / "crops" / "landmarks.csv").landmarks
    np.testing.assert_allclose(found, [landmarks_at(32, 24), landmarks_at(48, 32), landmarks_at(72, 40)], atol=1e-3)
    code, printed = command(*given)
    assert code == 0 and "3 of 4 faces, 4 of them before" in printed


def test_summary_says_how_many_photos_show_several_faces_and_which_folders_are_empty(photos, command, tmp_path):
    (photos / "安德烈").mkdir()
    (photos / "Zoe").mkdir()
    (photos / "Zoe" / "note.txt").write_text("later")
    code, printed = command("align", "photos=photos", "detector.weights=yunet.onnx", "out=crops", *OVERRIDES)
    assert (
        code == 0
        and "several      photos with several faces (1; in 1 another face has half the area or more): choose=largest"
        in printed
    )
    (row,) = (tmp_path / "crops" / "several_faces.csv").read_text().splitlines()[1:]
    assert row.startswith(f'{photos}/Ann/2.png,Ann,2,1.00,,,"24 x 32 pixels, the next 24 x 32",')
    assert "rejected     1 no_face, 1 not_image, 2 folders without a photo ('Zoe', '安德烈'); listed" in printed
    assert f"{photos}/安德烈,,empty_folder,the folder has no photo" in (tmp_path / "crops" / "report.csv").read_text()


@pytest.mark.parametrize(("given", "crops"), [("photos/Ann", ["1.jpg", "2.jpg"]), ("photos/Ann/2.png", ["2.jpg"])])
def test_photos_without_folders_of_people_give_crops_without_identities(given, crops, photos, command, tmp_path):
    arguments = ["align", "detector.weights=yunet.onnx", "out=crops", *OVERRIDES]
    code, printed = command(*arguments, f"photos={given}")
    assert code == 0 and "identities   none\n" in printed and "next  " not in printed, printed
    assert "crops without identities are for embeddings" in printed
    out = tmp_path / "crops"
    assert sorted(path.name for path in out.glob("*.jpg")) == crops and cv2.imread(str(out / "2.jpg")).shape[0] == 112
    lines = (out / "landmarks.csv").read_text().splitlines()[1:]
    assert all(line.startswith(f"{photos}/Ann/{name[0]}.png,,") for line, name in zip(lines, crops, strict=True))
    assert "of them before, in crops\n" in command(*arguments, f"photos={given}")[1]
    code, printed = command(*arguments, "photos=photos/Bob/1.png")
    assert code == 2 and f"photos: {tmp_path}/{given} before, {photos}/Bob/1.png now" in printed, printed
    for verb in (["inspect"], ["pack", "out=packed"]):
        code, printed = command(*verb, "data.root=crops")
        assert code == 2 and f"{len(crops)} images, but no folder in it" in printed, printed
        assert "facerec align made these crops without identities" in printed


@pytest.mark.parametrize(("rule", "place"), [("central", (72, 24)), ("nearest_box", (112, 48))])
def test_rule_chooses_the_face(rule, place, photos, command, tmp_path):
    cv2.imwrite(str(photos / "Ann" / "2.png"), white_squares(96, 160, (8, 24), (72, 24), (112, 48)))
    boxes = ["boxes=boxes.csv"] if rule == "nearest_box" else []
    given = ["align", "photos=photos", "detector.weights=scrfd.onnx", "out=crops", f"choose={rule}", *boxes, *OVERRIDES]
    assert command(*given)[0] == 0
    table = read_photo_table(tmp_path / "crops" / "landmarks.csv")
    assert table.landmarks is not None
    (index,) = (i for i, path in enumerate(table.paths) if path.endswith("Ann/2.png"))
    np.testing.assert_allclose(table.landmarks[index], landmarks_at(*place), atol=1e-3)


def test_celebas_lists_align_photos_that_lie_together(photos, command, tmp_path):
    code, printed = command(
        "align", "photos=photos", "landmarks=celeba.txt", "identities=names.txt", "out=crops",
        "size=[112,96]", "format=png",
    )  # fmt: skip
    assert code == 0 and "aligned      1 of 1 faces" in printed, printed
    assert "inspect data.root=crops input.height_px=112 input.width_px=96 out=" in printed
    assert cv2.imread(str(tmp_path / "crops" / "17" / "1.png")).shape == (112, 96, 3)


def test_photos_of_a_list_get_its_identities_and_a_detectors_landmarks(photos, command, tmp_path):
    given = ["align", "photos=photos", "identities=names.txt", "detector.weights=yunet.onnx", "out=crops", *OVERRIDES]
    code, printed = command(*given)
    assert code == 0 and "aligned      2 of 2 faces" in printed, printed
    assert sorted(path.name for path in (tmp_path / "crops").iterdir() if path.is_dir()) == [".align", "17", "4"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give either landmarks=<a file> or detector.weights="),
        (["detector.weights=yunet.onnx", "landmarks=marks.csv"], "found both"),
        (["detector.weights=marks.csv"], "marks.csv is a text file, not an ONNX network"),
        (["detector.weights=yunet.onnx", "photos=nowhere"], "photos=nowhere: there is no such folder"),
        (["detector.weights=yunet.onnx", "photos=marks.csv"], "marks.csv: expected a folder, or a photo whose name"),
        (["landmarks=marks.csv", "photos=photos/Ann/1.png"], "it is a file; expected the folder of the photos"),
        (
            ["detector.weights=yunet.onnx", "photos=photos/Ann/1.png", "choose=nearest_box", "boxes=boxes.csv"],
            "is one photo, boxes are for a folder",
        ),
        (["detector.weights=yunet.onnx", "photos=null"], "photos is not set"),
        (
            ["detector.weights=yunet.onnx", "out=photos/crops"],
            "out=photos/crops is inside photos, where every folder is an identity",
        ),
        (["detector.weights=yunet.onnx", "out=."], "already exists, and facerec align did not write it"),
        (["detector.weights=yunet.onnx", "choose=biggest"], "choose=biggest; expected one of largest"),
        (["detector.weights=yunet.onnx", "choose=nearest_box"], "choose=nearest_box needs boxes"),
        (
            ["detector.weights=yunet.onnx", "boxes=boxes.csv"],
            "boxes=boxes.csv: only choose=nearest_box uses it; remove boxes",
        ),
        (["detector.weights=yunet.onnx", "choose=nearest_box", "boxes=names.txt"], "it has no boxes; expected box_x"),
        (["detector.weights=yunet.onnx", "identities=celeba.txt"], "identities=celeba.txt: it has no identities"),
        (["detector.weights=yunet.onnx", "size=112"], "size"),
        (["detector.weights=yunet.onnx", "format=png", "jpeg_quality=90"], "format=png has no quality"),
        (["detector.weights=yunet.onnx", "num_threads=0"], "num_threads=0; expected 1 or more"),
        (["detector.weights=yunet.onnx", "detector.refne=true"], "detector.refne: no such key; did you mean"),
        (["detector.weights=yunet.onnx", "detector.longest_side_px=640.5"], "detector.longest_side_px=640.5"),
        (["landmarks=marks.csv", "choose=central"], "choose=central: landmarks=marks.csv needs no detector"),
        (["landmarks=marks.csv", "detector.refine=false"], "needs no detector; remove detector.refine"),
        (["landmarks=marks.csv", "identities=names.txt"], "the list of photos already has identities"),
        (["landmarks=names.txt"], "landmarks=names.txt: it has no landmarks; expected x1"),
        (
            ["landmarks=marks.csv", "photos=photos/Ann"],
            "such as photos/Ann/Ann/1.png. photos=photos would fit",
        ),
        (
            ["landmarks=marks.csv", "photos=."],
            "none of the listed photos exists, such as Ann/1.png. photos=phot",
        ),
    ],
)
def test_what_cannot_work_is_refused(given, message, photos, command, tmp_path):
    code, printed = command(
        "align", "out=crops", *given, *(["photos=photos"] if "photos=" not in " ".join(given) else [])
    )
    assert code == 2 and message in printed and "Traceback" not in printed and printed.count("error: ") == 1, printed
    assert not (tmp_path / "crops").exists()


def test_set_without_any_face_is_an_error_with_a_report(photos, command, tmp_path):
    code, printed = command(
        "align", "photos=photos", "detector.weights=yunet.onnx", "detector.min_score=1", "out=crops", *OVERRIDES
    )
    assert code == 2 and "no crop: all 4 were rejected; see" in printed and "4 no_face" in printed
    assert len((tmp_path / "crops" / "report.csv").read_text().splitlines()) == 5
    # with other settings it may go into the same folder, which holds no crop
    code, printed = command("align", "photos=photos", "detector.weights=yunet.onnx", "out=crops", *OVERRIDES)
    assert code == 0 and "3 of 4 faces, in" in printed


HEADER = ",".join(("path", "identity", *LANDMARK_COLUMNS))


@pytest.fixture
def portraits(tmp_path, monkeypatch) -> Callable[..., str]:
    """`portraits(change)` writes marks.csv, or .lst, of 24 photos of 8 people; change: the landmarks, (24, 5, 2)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    landmarks = (TEMPLATE_112 - 56 + rng.normal(0, 2, (24, 5, 2))) * 0.7 + [110, 100] + rng.uniform(-9, 9, (24, 1, 2))
    names = [f"p{number % 8}/{number}.png" for number in range(24)]
    for name in names:
        path = tmp_path / "team" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (200, 220, 3), dtype=np.uint8))

    def write(change: Callable[[np.ndarray], np.ndarray] = lambda points: points, *, suffix: str = ".csv") -> str:
        lines = []
        for name, points in zip(names, change(landmarks), strict=True):
            if suffix == ".lst":
                lines.append("\t".join(["0", name, name[:2], "0", "0", "9", "9", *map(str, points.T.ravel())]))
            else:
                lines.append(",".join([name, name[:2], *map(str, points.ravel())]))
        (tmp_path / f"marks{suffix}").write_text("\n".join([HEADER] * (suffix == ".csv") + lines) + "\n")
        return f"marks{suffix}"

    return write


@pytest.mark.parametrize("suffix", [".csv", ".lst"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p * 2, "no crop: all 24 were rejected; see {report}. All faces rejected for their landmarks fit a "
            "photo of twice the size"),
        (lambda p: p + 1000, "no crop: all 24 were rejected; see {report}. All faces rejected for their landmarks fit "
            "when moved by about -1000 pixels in x and -1010 in y"),
        (lambda p: p[:, [1, 0, 2, 4, 3]], "fit with left and right exchanged"),
        (lambda p: np.concatenate([p[:7], 2 * p[7:]]), "most of the list was rejected: 17 of 24; see {report}. All"),
    ],
)  # fmt: skip
def test_list_that_does_not_fit_its_photos_is_refused_with_what_is_common(
    suffix, change, message, portraits, command, tmp_path
):
    code, printed = command("align", f"landmarks={portraits(change, suffix=suffix)}", "photos=team", "out=crops")
    assert code == 2 and message.format(report="crops/report.csv") in printed and printed.count("error: ") == 1, printed
    num_kept = 7 if "most of" in message else 0
    assert (tmp_path / "crops" / "report.csv").read_text().count("bad_landmarks") == 24 - num_kept
    assert len(list((tmp_path / "crops").glob("p*/*.jpg"))) == num_kept
    assert "next  " not in printed


def test_list_in_blocks_of_x_and_y_is_refused_and_one_that_is_fractions_before_any_photo(portraits, command, tmp_path):
    blocks = portraits(lambda p: p.swapaxes(1, 2).reshape(-1, 5, 2))
    code, printed = command("align", f"landmarks={blocks}", "photos=team", "out=crops")
    assert code == 2 and "fit as x1 ... x5 followed by y1 ... y5; write each point as x, y" in printed, printed
    for suffix in (".csv", ".lst"):
        fractions = portraits(lambda p: p / [220, 200], suffix=suffix)
        code, printed = command("align", f"landmarks={fractions}", "photos=team", "out=other")
        assert code == 2 and "like fractions of the photo; expected pixels. Multiply x by the width" in printed, printed
        assert not (tmp_path / "other").exists()


def test_list_with_a_few_bad_faces_is_aligned_with_a_note(portraits, command):
    few = portraits(lambda p: np.concatenate([p[:20], 2 * p[20:]]))
    code, printed = command("align", f"landmarks={few}", "photos=team", "out=crops")
    assert code == 0 and "aligned      20 of 24" in printed and "rejected     4 bad_landmarks" in printed
    assert "note         all faces rejected for their landmarks fit a photo of twice the size" in printed
    half = portraits(lambda p: p / 2.3)
    code, printed = command("align", f"landmarks={half}", "photos=team", "out=small")
    assert code == 0 and "note         all faces lie in the upper left quarter of their photos" in printed


def test_table_that_does_not_fit_its_photos_is_a_data_error_for_every_verb(portraits, command, tmp_path):
    portraits(lambda p: 2 * p)
    (tmp_path / "marks.csv").rename(tmp_path / "team" / "marks.csv")
    code, printed = command("inspect", "data.root=team/marks.csv")
    assert code == 1 and "24 landmarks" in printed and "1 landmarks of the table" in printed, printed
    assert "team/marks.csv: all faces rejected for their landmarks fit a photo of twice the size" in printed
    for verb in ("pack", "train"):
        more = ["out=packed"] if verb == "pack" else [
            "data=on_disk", "run_dir=run", "backbone=mobilefacenet", "data.global_batch_size=8", "eval.sets=[]",
            "trainer.num_steps=1", "loader.num_workers=0",
        ]  # fmt: skip
        code, printed = command(verb, "data.root=team/marks.csv", *more)
        assert code == 2 and "of the five points lie outside the photo of 200 x 220 pixels" in printed, printed


def test_folder_around_the_folder_of_the_people_is_noted(photos, command, tmp_path):
    code, printed = command("align", "photos=.", "detector.weights=yunet.onnx", f"out={tmp_path}_crops", *OVERRIDES)
    assert code == 0 and "one identity: each folder in" in printed


def test_same_command_with_another_setting_is_refused(photos, command, tmp_path):
    given = ["align", "photos=photos", "landmarks=marks.csv", "out=crops"]
    assert command(*given)[0] == 0
    before = written(tmp_path / "crops")
    code, printed = command(*given, "jpeg_quality=90")
    assert code == 2 and "jpeg_quality: 95 before, 90 now" in printed and "give another folder" in printed
    (tmp_path / "marks.csv").write_text((tmp_path / "marks.csv").read_text().replace("69", "70"))
    code, printed = command(*given)
    assert code == 2 and "landmarks: " in printed and written(tmp_path / "crops") == before


def test_killed_in_the_middle_it_goes_on_to_the_same_files(photos, tmp_path):
    for number in range(150):
        cv2.imwrite(str(photos / "Bob" / f"more {number}.png"), white_squares(96, 160, (8 + 8 * (number % 16), 40)))
    command = [
        sys.executable, "-m", "facerec", "align", "photos=photos", "detector.weights=yunet.onnx", "batch_size=2",
        *OVERRIDES,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = subprocess.Popen(
        [*command, "out=killed"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    journal = tmp_path / "killed" / ".align" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not journal.exists() or journal.stat().st_size < 8_000):
        time.sleep(0.001)
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert started.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "landmarks.csv").exists()
    num_done = journal.read_bytes().count(b"\n")
    assert 10 < num_done < 150
    for out in ("killed", "whole"):
        done = subprocess.run([*command, f"out={out}"], env=environment, capture_output=True, text=True, check=True)
        assert "aligned      153 of 154 faces" in done.stdout
        if out == "killed":
            assert f"faces, {num_done} of them before" in done.stdout
    assert written(tmp_path / "killed") == written(tmp_path / "whole")
