"""Photos with several faces: the table of them, and a judge that chooses another face than the rule."""

import csv
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.align.alignment import AlignmentCounts, align_photos
from facerec.align.candidate_faces import CandidateFaces, DoubtfulCrop, FaceChoice, Judgement
from facerec.align.crop_writer import CropSettings
from facerec.align.crops import align_crop
from facerec.align.faces import Faces
from facerec.align.landmark_files import read_face_list
from facerec.align.photo_reader import decode_rgb
from facerec.align.similarity import TEMPLATE_112
from facerec.align.wanted_faces import faces_in_folder
from facerec.core.errors import DataError
from facerec.data.sources import open_source

POINTS = TEMPLATE_112 * 0.5
BOXES = {
    "Ann/1.png": [[10, 10, 40, 50]],
    "Ann/2.png": [[100, 40, 30, 30], [10, 10, 40, 50], [60, 20, 20, 20]],
    "Bob/1.png": [[30, 30, 40, 40], [100, 30, 36, 40]],
    "Bob/2.png": [[500, 10, 60, 60], [70, 30, 30, 30]],  # the larger one has landmarks outside the photo
}


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in BOXES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(1, 256, (120, 180, 3), dtype=np.uint8))
    return tmp_path / "photos"


def detector_of(photos: Path) -> Callable[[Sequence[np.ndarray]], list[Faces]]:
    """Finds the faces in BOXES."""
    boxes_of = {(photos / name).read_bytes(): boxes for name, boxes in BOXES.items()}
    known = {decode_rgb(content, where="").tobytes(): np.array(boxes, float) for content, boxes in boxes_of.items()}

    def detector(batch: Sequence[np.ndarray]) -> list[Faces]:
        found = [known[photo.tobytes()] for photo in batch]
        scores = [np.linspace(0.9, 0.8, len(boxes)) for boxes in found]
        return [
            Faces(boxes=boxes, landmarks=POINTS + boxes[:, None, :2], scores=score)
            for boxes, score in zip(found, scores, strict=True)
        ]

    return detector


def align(photos: Path, out: Path, **more) -> AlignmentCounts:
    wanted = more.pop("wanted", None) or faces_in_folder(photos)
    crops = CropSettings(image_format="png", choose=more.pop("choose", "largest"))
    return align_photos(wanted, out=out, detector=more.pop("detector", detector_of(photos)), crops=crops, **more)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def crop_of(photos: Path, name: str, box: Sequence[float]) -> np.ndarray:
    photo = decode_rgb((photos / name).read_bytes(), where="")
    return align_crop(photo, np.round(POINTS + np.array(box[:2]), 3))


def read(path: Path) -> np.ndarray:
    return decode_rgb(path.read_bytes(), where="")


def written(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_table_says_which_face_was_taken_and_why_the_doubtful_photos_first(photos, tmp_path):
    counts = align(photos, tmp_path / "out")
    assert (counts.num_aligned, counts.num_with_several, counts.num_about_as_large) == (4, 3, 2)
    found = rows(tmp_path / "out" / "several_faces.csv")
    assert [(row["path"], row["identity"], row["num_faces"], row["next_size"], row["why"]) for row in found] == [
        (
            f"{photos}/Bob/2.png", "Bob", "2", "4.00",
            "30 x 30 pixels, the next 60 x 60; that one has invalid landmarks, or is cut by the photo's edge and has a "
            "lower score",
        ),
        (f"{photos}/Bob/1.png", "Bob", "2", "0.90", "40 x 40 pixels, the next 36 x 40"),
        (f"{photos}/Ann/2.png", "Ann", "3", "0.45", "40 x 50 pixels, the next 30 x 30"),
    ]  # fmt: skip
    assert [(row["box_x"], row["box_width"], row["crop"], row["cosine"]) for row in found] == [
        ("70.0", "30.0", "Bob/2.png", ""), ("30.0", "40.0", "Bob/1.png", ""), ("10.0", "40.0", "Ann/2.png", ""),
    ]  # fmt: skip
    assert not (tmp_path / "out" / "doubtful.csv").exists()


def test_other_rules_have_their_own_reasons(photos, tmp_path):
    align(photos, tmp_path / "central", choose="central")
    why = {row["crop"]: row["why"] for row in rows(tmp_path / "central" / "several_faces.csv")}
    assert why["Bob/1.png"] == "30 pixels from the photo's centre, the next 41"  # (50, 50) and (118, 50); (90, 60)
    (tmp_path / "boxes.csv").write_text(
        "path,identity,box_x,box_y,box_width,box_height\nAnn/2.png,Ann,100,40,30,30\nBob/1.png,Bob,100,30,36,20\n"
    )
    wanted = faces_in_folder(photos, boxes=read_face_list(tmp_path / "boxes.csv"))
    align(photos, tmp_path / "box", choose="nearest_box", wanted=wanted)
    assert [(row["crop"], row["why"]) for row in rows(tmp_path / "box" / "several_faces.csv")] == [
        ("Ann/2.png", "overlaps the wanted box by 1.00, and the only one there"),
        ("Bob/1.png", "overlaps the wanted box by 0.50, and the only one there"),
    ]


def choosing(faces: dict[str, int], **more) -> Callable[[CandidateFaces, Path], Judgement]:
    """A judge that takes these faces, by the number in the order of the rule."""

    def judge(candidates: CandidateFaces, folder: Path) -> Judgement:
        place = {candidates.wanted.paths[number]: number for number in candidates.number_K.tolist()}
        choices = {
            place[name]: FaceChoice(face=face, is_first=face == 0, cosine=0.7, next_cosine=0.25, num_others=1)
            for name, face in faces.items()
        }
        return Judgement(choices=choices, **more)

    return judge


def test_judge_gets_every_sound_face_as_a_crop(photos, tmp_path):
    seen: list[tuple[str, int, bool, bool]] = []

    def judge(candidates: CandidateFaces, folder: Path) -> Judgement:
        for index in range(len(candidates)):
            name = candidates.wanted.paths[int(candidates.number_K[index])]
            face = int(candidates.face_K[index])
            seen.append((name, face, bool(candidates.is_only_K[index]), bool(candidates.is_taken_K[index])))
            by_size = sorted(BOXES[name], key=lambda box: -box[2] * box[3])
            assert np.array_equal(candidates.image(index), crop_of(photos, name, by_size[face]))
            assert candidates.name(index) == str(photos / name)
        assert candidates.label_K.tolist() == [0, 0, 0, 0, 1, 1, 1]
        return Judgement()

    align(photos, tmp_path / "out", judge=judge)
    assert seen == [
        ("Ann/1.png", 0, True, True),
        ("Ann/2.png", 0, False, True), ("Ann/2.png", 1, False, False), ("Ann/2.png", 2, False, False),
        ("Bob/1.png", 0, False, True), ("Bob/1.png", 1, False, False),
        ("Bob/2.png", 1, True, True),
    ]  # fmt: skip


def test_face_that_the_judge_takes_is_the_crop_and_in_all_tables(photos, tmp_path):
    out = tmp_path / "out"
    doubtful = [DoubtfulCrop(number=2, cosine=0.1, like="Ann", like_cosine=0.6, score=0.9)]
    counts = align(photos, out, judge=choosing({"Ann/2.png": 2, "Bob/1.png": 0}, doubtful=doubtful))
    assert (counts.num_compared, counts.num_other_face, counts.num_doubtful) == (2, 1, 1)
    assert np.array_equal(read(out / "Ann" / "2.png"), crop_of(photos, "Ann/2.png", [60, 20]))
    assert np.array_equal(read(out / "Bob" / "1.png"), crop_of(photos, "Bob/1.png", [30, 30]))
    found = {row["crop"]: row for row in rows(out / "several_faces.csv")}
    assert found["Ann/2.png"]["why"] == (
        "cosine 0.70 to the 1 photo of the identity with one face, the other faces have up to 0.25; choose=largest "
        "alone takes another face"
    )
    assert [found["Ann/2.png"][key] for key in ("next_size", "cosine", "box_x")] == ["5.00", "0.70", "60.0"]
    assert "alone takes" not in found["Bob/1.png"]["why"] and found["Bob/2.png"]["cosine"] == ""
    of_ann = next(row for row in rows(out / "landmarks.csv") if row["crop"] == "Ann/2.png")
    assert (of_ann["box_x"], of_ann["num_faces"], of_ann["score"]) == ("60.0", "3", "0.8")
    assert rows(out / "doubtful.csv") == [
        {
            "path": f"{photos}/Bob/1.png", "identity": "Bob", "cosine": "0.10", "like": "Ann", "like_cosine": "0.60",
            "score": "0.900", "crop": "Bob/1.png",
        }
    ]  # fmt: skip
    # the table of landmarks gives the crops that were written
    assert np.array_equal(open_source(str(out / "landmarks.csv")).image(1), read(out / "Ann" / "2.png"))


def test_choice_depends_only_on_the_last_judgement(photos, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    align(photos, out, judge=choosing({"Ann/2.png": 2}))
    align(photos, out, judge=choosing({"Ann/2.png": 1, "Bob/1.png": 1}))
    align(photos, whole, judge=choosing({"Ann/2.png": 1, "Bob/1.png": 1}))
    differ = {name for name, content in written(out).items() if written(whole)[name] != content}
    assert differ == {".align/journal.jsonl"}
    before = written(out)
    counts = align(photos, out, judge=choosing({"Ann/2.png": 1, "Bob/1.png": 1}))
    assert counts.num_done_before == 4 and written(out) == before
    align(photos, out, judge=choosing({}))  # as after the photos with one face are gone: the rule's face again
    assert np.array_equal(read(out / "Ann" / "2.png"), crop_of(photos, "Ann/2.png", [10, 10]))


class Killed(BaseException):
    """As a signal would end it."""


@pytest.mark.parametrize("where", ["in the judge", "before the crops", "between the crops"])
def test_interrupted_while_the_judge_works_it_ends_as_if_it_never_had_been(where, photos, tmp_path, monkeypatch):
    judge = choosing({"Ann/2.png": 2, "Bob/1.png": 1})
    align(photos, tmp_path / "whole", judge=judge, batch_size=1)
    num_left = itertools.count({"in the judge": 99, "before the crops": 0, "between the crops": 1}[where], -1)

    def dying(candidates: CandidateFaces, folder: Path) -> Judgement:
        if where == "in the judge":
            raise Killed
        from facerec.align.crop_writer import CropWriter

        take = CropWriter.take

        def dying_take(*arguments):
            if next(num_left) <= 0:  # another thread may begin the next one before this error arrives
                raise Killed
            return take(*arguments)

        monkeypatch.setattr(CropWriter, "take", dying_take)
        return judge(candidates, folder)

    with pytest.raises(Killed):
        align(photos, tmp_path / "out", judge=dying, batch_size=1)
    monkeypatch.undo()
    with pytest.raises(DataError, match="has not finished here"):
        len(open_source(str(tmp_path / "out")))
    counts = align(photos, tmp_path / "out", judge=judge, batch_size=1)
    assert counts.num_done_before == 4 and written(tmp_path / "out") == written(tmp_path / "whole")


def test_photo_that_changes_while_it_is_judged_is_an_error(photos, tmp_path):
    def judge(candidates: CandidateFaces, folder: Path) -> Judgement:
        (photos / "Ann" / "2.png").write_bytes((photos / "Ann" / "1.png").read_bytes())
        return choosing({"Ann/2.png": 1})(candidates, folder)

    with pytest.raises(DataError, match=r"Ann/2\.png: it has changed while it was aligned; repeat the command"):
        align(photos, tmp_path / "out", judge=judge)
