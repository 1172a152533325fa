"""From wanted faces to a folder of crops: what is written, what is rejected, and going on after an interruption."""

import csv
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from facerec.align.alignment import align_photos
from facerec.align.crop_writer import CropSettings
from facerec.align.crops import align_crop
from facerec.align.crops_folder import JOURNAL_FILE, JOURNAL_PARTS
from facerec.align.faces import Faces
from facerec.align.landmark_files import read_face_list
from facerec.align.photo_reader import decode_rgb
from facerec.align.photo_table import read_photo_table
from facerec.align.similarity import TEMPLATE_112
from facerec.align.wanted_faces import WantedFaces, faces_in_folder, faces_in_list
from facerec.core.errors import ConfigError, DataError
from facerec.data.sources import open_source
from facerec.data.sources.list_source import ListSource

POINTS = TEMPLATE_112 * 0.7 + [20.123456, 10.0]
NAMES = ["Ann/1.png", "Ann/2.png", "Bob/1.png", "Bob/2.png", "Bob/3.png", "Zoe/1.png", "Zoe/2.png"]


def pixels(seed: int, height: int = 120, width: int = 130) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 13, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height))


def faces_of(*boxes: list[float]) -> Faces:
    """Faces at these boxes, the landmarks of each shifted with it."""
    found = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Faces(boxes=found, landmarks=POINTS + found[:, None, :2], scores=np.linspace(0.9, 0.8, len(found)))


class OwnDetector:
    """Any callable: finds two faces, none in a photo whose first pixel is black; remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, photos: Sequence[np.ndarray]) -> list[Faces]:
        self.batches.append(len(photos))
        return [faces_of([0, 0, 30, 30], [4, 5, 40, 40]) if photo[0, 0].any() else faces_of() for photo in photos]


@pytest.fixture
def photos(tmp_path) -> Path:
    for seed, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels(seed) | 1)
    return tmp_path / "photos"


def written(out: Path) -> dict[str, bytes]:
    """All files but the lock."""
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_any_callable_finds_the_faces(photos, tmp_path):
    detector, out = OwnDetector(), tmp_path / "out"
    done: list[int] = []
    counts = align_photos(
        faces_in_folder(photos), out=out, detector=detector, batch_size=3, on_progress=done.append,
        crops=CropSettings(image_format="png"),
    )  # fmt: skip
    assert (counts.num_wanted, counts.num_aligned, counts.num_identities) == (7, 7, 3)
    assert sorted(detector.batches) == [1, 3, 3] and sum(done) == 7
    for seed, name in enumerate(NAMES):
        landmarks = np.round(POINTS + [4, 5], 3)  # of the larger face
        np.testing.assert_array_equal(
            decode_rgb((out / name).read_bytes(), where=""), align_crop((pixels(seed) | 1)[:, :, ::-1], landmarks)
        )
    first = rows(out / "landmarks.csv")[0]
    assert first["path"] == str(photos / NAMES[0]) and first["crop"] == NAMES[0] and first["num_faces"] == "2"
    assert [first[key] for key in ("box_x", "box_y", "box_width", "box_height", "score")] == [
        "4.0", "5.0", "40.0", "40.0", "0.8",
    ]  # fmt: skip
    assert rows(out / "report.csv") == []


@pytest.mark.parametrize("image_format", ["jpeg", "png"])
def test_table_of_landmarks_gives_the_same_crops_on_the_fly(image_format, photos, tmp_path):
    out = tmp_path / "out"
    align_photos(
        faces_in_folder(photos), out=out, detector=OwnDetector(), crops=CropSettings(image_format=image_format)
    )
    source = open_source(str(out / "landmarks.csv"))
    assert isinstance(source, ListSource) and source.identities == ["Ann", "Bob", "Zoe"] and len(source) == 7
    crops = sorted(path for path in out.rglob("*/*") if path.suffix in (".jpg", ".png"))
    for index, path in enumerate(crops):
        if image_format == "jpeg":
            assert source.encoded(index) == path.read_bytes()
        else:
            np.testing.assert_array_equal(source.image(index), decode_rgb(path.read_bytes(), where=""))
    from_table = align_photos(
        faces_in_list(read_face_list(out / "landmarks.csv"), base=out), out=tmp_path / "again",
        crops=CropSettings(image_format=image_format),
    )  # fmt: skip
    assert from_table.num_aligned == 7
    assert [(tmp_path / "again" / path.relative_to(out)).read_bytes() for path in crops] == [
        path.read_bytes() for path in crops
    ]


def test_photo_of_any_format_gives_the_same_crop_in_advance_and_on_the_fly(tmp_path):
    folder = tmp_path / "photos" / "Ann"
    folder.mkdir(parents=True)
    photo, exif = Image.fromarray(pixels(0) | 1), Image.Exif()
    exif[0x112] = 6  # turned by a quarter
    photo.save(folder / "turned.jpg", exif=exif)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("L").save(folder / "grey.jpg")
    photo.convert("RGBA").save(folder / "alpha.png")
    cv2.imwrite(str(folder / "deep.png"), pixels(0).astype(np.uint16) * 257)
    align_photos(faces_in_folder(tmp_path / "photos"), out=tmp_path / "out", detector=OwnDetector())
    source = open_source(str(tmp_path / "out" / "landmarks.csv"))
    assert isinstance(source, ListSource)
    names = [Path(source.name(index)).stem for index in range(len(source))]
    assert names == ["alpha", "cmyk", "deep", "grey", "turned"]
    crops = [(tmp_path / "out" / "Ann" / f"{name}.jpg").read_bytes() for name in names]
    assert [source.encoded(index) for index in range(5)] == crops
    upright = align_crop(np.rot90(pixels(0) | 1, k=-1), np.round(POINTS + [4, 5], 3))
    assert np.abs(decode_rgb(crops[4], where="").astype(int) - upright).mean() < 4  # two JPEGs between them


def test_what_is_rejected_is_listed_with_its_reason(photos, tmp_path):
    (photos / "Ann" / "1.png").write_bytes(b"no image")
    black = pixels(1)
    black[0, 0] = 0
    cv2.imwrite(str(photos / "Bob" / "2.png"), black)
    (photos / "Bob" / "note.txt").write_bytes(b"")
    (photos / "Ann" / "2.png").unlink()
    counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=OwnDetector())
    assert counts.num_rejected == {"no_face": 1, "not_image": 1, "unreadable": 1}
    assert (counts.num_wanted, counts.num_aligned, counts.num_identities, counts.num_lost_identities) == (6, 4, 2, 1)
    assert [
        (Path(row["path"]).name, row["identity"], row["reason"]) for row in rows(tmp_path / "out" / "report.csv")
    ] == [
        ("1.png", "Ann", "unreadable"),
        ("2.png", "Bob", "no_face"),
        ("note.txt", "", "not_image"),
    ]
    assert len(read_photo_table(tmp_path / "out" / "landmarks.csv").paths) == 4
    told = json.loads((tmp_path / "out" / "align.json").read_text())["counts"]
    assert told["num_aligned"] == 4 and told["num_rejected"] == counts.num_rejected


def test_face_whose_landmarks_are_not_sound_gives_way_to_the_next_before_the_photo_is_rejected(photos, tmp_path):
    def detector(seen: Sequence[np.ndarray]) -> list[Faces]:
        found = faces_of([0, 0, 60, 60], [4, 5, 40, 40], [9, 5, 20, 20])
        found.landmarks[0] += 500  # outside the photo
        alone = faces_of([0, 0, 60, 60])
        alone.landmarks[0] += 500
        return [alone if photo[0, 0, 0] == seen[0][0, 0, 0] else found for photo in seen]

    counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=detector, batch_size=7)
    assert counts.num_rejected == {"bad_landmarks": 1}
    assert {row["box_width"] for row in rows(tmp_path / "out" / "landmarks.csv")} == {"40.0"}


def test_landmarks_of_a_list_that_fit_no_face_or_no_photo_are_rejected(photos, tmp_path):
    header = "path,identity," + ",".join(f"{axis}{n}" for n in range(1, 6) for axis in "xy")
    good, same = ",".join(map(str, POINTS.ravel())), ",".join(["5"] * 10)
    lines = [f"Ann/1.png,A,{good}", f"Ann/1.png,B,{good}", f"Ann/2.png,A,{same}", f"nowhere.png,A,{good}"]
    far = ",".join([*map(str, POINTS.ravel()[:9]), "999999"])
    swapped = ",".join(map(str, POINTS[[1, 0, 2, 3, 4]].ravel()))
    lines += [f"Ann/2.png,A,{bad}" for bad in (far, swapped, "1,2,3,4,5,6,7,8,9,10")]
    (tmp_path / "list.csv").write_text("\n".join([header, *lines]) + "\n")
    wanted = faces_in_list(read_face_list(tmp_path / "list.csv"), base=photos)
    counts = align_photos(wanted, out=tmp_path / "out", crops=CropSettings(size_px=(112, 96)))
    assert counts.num_rejected == {"bad_landmarks": 4, "missing": 1} and counts.num_aligned == 2
    details = [row["detail"] for row in rows(tmp_path / "out" / "report.csv") if row["reason"] == "bad_landmarks"]
    reasons = ("span 0.0 pixels", "lie outside the photo of 120 x 130 pixels", "after alignment", "after alignment")
    assert all(reason in detail for reason, detail in zip(reasons, details, strict=True)), details
    crop = decode_rgb((tmp_path / "out" / "B" / "1.jpg").read_bytes(), where="")  # two people in one photo
    assert crop.shape == (112, 96, 3)
    assert (tmp_path / "out" / "A" / "1.jpg").read_bytes() == (tmp_path / "out" / "B" / "1.jpg").read_bytes()


def test_face_at_the_box_is_taken_or_none(photos, tmp_path):
    boxes = tmp_path / "boxes.csv"
    near, far = "1,1,28,28", "90,90,9,9"
    lines = [f"Ann/1.png,x,{near}", f"Ann/2.png,x,{far}", "Bob/1.png,x,,,,"]
    boxes.write_text("path,identity,box_x,box_y,box_width,box_height\n" + "\n".join(lines) + "\n")
    wanted = faces_in_folder(photos, boxes=read_face_list(boxes))
    counts = align_photos(
        wanted, out=tmp_path / "out", detector=OwnDetector(), crops=CropSettings(choose="nearest_box")
    )
    assert counts.num_aligned == 1 and counts.num_rejected == {"no_box": 5, "no_face_at_box": 1}
    assert rows(tmp_path / "out" / "landmarks.csv")[0]["box_width"] == "30.0"
    with pytest.raises(ConfigError, match="needs boxes"):
        align_photos(
            faces_in_folder(photos),
            out=tmp_path / "o",
            detector=OwnDetector(),
            crops=CropSettings(choose="nearest_box"),
        )


class Killed(BaseException):
    """As a signal would end it."""


@pytest.mark.parametrize("num_threads", [1, 3])
def test_interrupted_anywhere_it_ends_as_if_it_never_had_been(num_threads, photos, tmp_path):
    def align(out: Path, detector, **more):
        return align_photos(faces_in_folder(photos), out=out, detector=detector, num_threads=num_threads, **more)

    align(tmp_path / "whole", OwnDetector(), batch_size=2)
    for survived in range(7):
        lock, left = threading.Lock(), [survived]

        def dying(batch, lock=lock, left=left):
            with lock:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
            return OwnDetector()(batch)

        out = tmp_path / f"cut{survived}"
        for _ in range(2):  # twice, so that one resumes an interrupted one
            with pytest.raises(Killed):
                align(out, dying, batch_size=1)
            with pytest.raises(DataError, match="has not finished here; repeat its command to resume"):
                len(open_source(str(out)))
        detector = OwnDetector()
        counts = align(out, detector, batch_size=2)
        assert sum(detector.batches) == 7 - counts.num_done_before
        if num_threads == 1:  # of several, one may have died with the first photo while the others went ahead
            assert counts.num_done_before >= survived - 1
        assert written(out) == written(tmp_path / "whole")


def test_what_has_changed_is_done_anew_and_nothing_else(photos, tmp_path):
    def align() -> tuple[int, dict[str, int]]:
        detector = OwnDetector()
        counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=detector)
        return sum(detector.batches), dict(counts.num_rejected)

    (photos / "Ann" / "1.png").write_bytes(b"no image")
    assert align() == (6, {"unreadable": 1})
    assert align() == (0, {"unreadable": 1})
    before = written(tmp_path / "out")
    (tmp_path / "out" / "Bob" / "1.jpg").unlink()
    (tmp_path / "out" / "Zoe" / "1.jpg").write_bytes(b"")  # as a machine may leave it that loses its power
    assert align() == (2, {"unreadable": 1})
    after = written(tmp_path / "out")
    assert after.pop(".align/journal.jsonl").startswith(before.pop(".align/journal.jsonl")) and after == before
    cv2.imwrite(str(photos / "Ann" / "1.png"), pixels(20) | 1)  # mended
    cv2.imwrite(str(photos / "Bob" / "4.png"), pixels(21) | 1)  # added
    cv2.imwrite(str(photos / "Zoe" / "2.png"), pixels(22, height=125) | 1)  # changed
    os.utime(photos / "Bob" / "3.png", (1, 1))  # copied anew
    assert align() == (4, {})
    (photos / "Zoe" / "2.png").unlink()  # its crop is not ours to delete: it is told
    for _ in range(2):
        assert align() == (0, {"left_over": 1})
        (row,) = rows(tmp_path / "out" / "report.csv")
        assert row["reason"] == "left_over" and "delete its crop Zoe/2.jpg" in row["detail"]
        assert "Zoe/2" not in (tmp_path / "out" / "landmarks.csv").read_text()
    (tmp_path / "out" / "Zoe" / "2.jpg").unlink()
    assert align() == (0, {})
    assert (tmp_path / "out" / "Bob" / "4.jpg").exists()
    (photos / "Bob" / "4.png").write_bytes(b"no image")  # a disk may fail for a while: the crop stays, and is told
    assert align() == (0, {"unreadable": 1}) and (tmp_path / "out" / "Bob" / "4.jpg").exists()
    black = pixels(1)
    black[0, 0] = 0
    cv2.imwrite(str(photos / "Bob" / "4.png"), black)  # no face in it: the crop of what it was would be one of the set
    assert align() == (1, {"no_face": 1}) and not (tmp_path / "out" / "Bob" / "4.jpg").exists()
    cv2.imwrite(str(photos / "Bob" / "5.png"), pixels(23) | 1)

    def dying(_: list[np.ndarray]) -> list[Faces]:
        raise Killed

    with pytest.raises(Killed):
        align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=dying)
    with pytest.raises(DataError, match="has not finished here"):  # though it once had
        len(open_source(str(tmp_path / "out")))


def test_folder_of_something_else_is_not_touched(photos, tmp_path):
    wanted, out = faces_in_folder(photos), tmp_path / "out"
    with pytest.raises(DataError, match="already exists, and facerec align did not write it"):
        align_photos(wanted, out=photos, detector=OwnDetector())
    align_photos(wanted, out=out, detector=OwnDetector(), described={"detector": {"min_score": 0.5}})
    before = written(out)
    for arguments, message in [
        (
            {"described": {"detector": {"min_score": 0.6}}},
            r"\(detector\.min_score: 0\.5 before, 0\.6 now\)",
        ),
        (
            {"crops": CropSettings(jpeg_quality=90), "described": {"detector": {"min_score": 0.5}}},
            "jpeg_quality: 95 before",
        ),
        ({}, r"detector\.min_score: 0\.5 before, no such setting now"),
        (  # a key that the version that made the folder did not have
            {"described": {"detector": {"min_score": 0.5, "turns": True}}},
            r"of other settings \(detector\.turns: no such setting before, True now\); give another folder",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            align_photos(wanted, out=out, detector=OwnDetector(), **arguments)  # type: ignore[arg-type]
    assert written(out) == before
    (out / "align.json").write_text("[]")
    with pytest.raises(DataError, match=r"facerec align did not write .*align\.json"):
        align_photos(wanted, out=out, detector=OwnDetector())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file already exists"):
        align_photos(wanted, out=tmp_path / "file", detector=OwnDetector())


def test_turned_photos_are_told_and_their_landmarks_give_the_same_crops(photos, tmp_path):
    def detector(pixels: Sequence[np.ndarray]) -> list[Faces]:
        upside_down = TEMPLATE_112[None] * -0.3 + 40
        box = np.array([[5.0, 5, 30, 30]])
        return [Faces(boxes=box, landmarks=upside_down, scores=np.array([0.9]), turned_deg=180) for _ in pixels]

    counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=detector)
    assert counts.num_turned == counts.num_aligned == len(NAMES)
    assert json.loads((tmp_path / "out" / "align.json").read_text())["counts"]["num_turned"] == len(NAMES)
    assert {row["turned_deg"] for row in rows(tmp_path / "out" / "landmarks.csv")} == {"180"}
    listed = faces_in_list(read_face_list(tmp_path / "out" / "landmarks.csv"), base=tmp_path)
    align_photos(listed, out=tmp_path / "again")
    for crop in (tmp_path / "out").rglob("*.jpg"):
        (again,) = (tmp_path / "again").rglob(f"{crop.parent.name}/{crop.name}")
        assert again.read_bytes() == crop.read_bytes()


def test_landmarks_of_the_chosen_face_are_those_of_a_second_look(photos, tmp_path):
    class Again(OwnDetector):
        def nearer_landmarks(self, photo: np.ndarray, faces: Faces, number: int) -> np.ndarray:
            return faces.landmarks[number] + 0.25

    align_photos(faces_in_folder(photos), out=tmp_path / "once", detector=OwnDetector())
    align_photos(faces_in_folder(photos), out=tmp_path / "twice", detector=Again())
    once, twice = (read_photo_table(tmp_path / out / "landmarks.csv").landmarks for out in ("once", "twice"))
    np.testing.assert_allclose(twice, once + 0.25)


def test_two_processes_do_not_write_one_folder(photos, tmp_path):
    def inner(batch):
        with pytest.raises(ConfigError, match="another facerec align is writing to it"):
            align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=OwnDetector())
        return OwnDetector()(batch)

    assert align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=inner).num_aligned == 7


def test_arguments_that_cannot_be_are_refused(photos, tmp_path):
    wanted = faces_in_folder(photos)
    with pytest.raises(ConfigError, match="give either landmarks or a detector"):
        align_photos(wanted, out=tmp_path / "out")
    with pytest.raises(DataError, match="the detector returned faces for 0 of 7 photos"):
        align_photos(wanted, out=tmp_path / "out", detector=lambda batch: [])
    for settings, message in [
        ({"choose": "best"}, "choose=best"),
        ({"size_px": (112, 0)}, r"size=\[112, 0\]; expected height and width"),
        ({"image_format": "gif"}, "format=gif; expected one of jpeg, png"),
        ({"jpeg_quality": 0}, "jpeg_quality=0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            CropSettings(**settings)  # type: ignore[arg-type]


def test_full_disk_is_named_and_nothing_is_lost(photos, tmp_path, monkeypatch):
    replace, left = os.replace, [3]

    def full(source, target):
        if str(target).endswith(".jpg"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"2\.jpg: cannot be written \(No space left on device\)\. Repeat the command"):
        align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=OwnDetector(), batch_size=1)
    monkeypatch.undo()
    counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=OwnDetector())
    assert (counts.num_done_before, counts.num_aligned) == (3, 7)


def test_wanted_faces_may_be_made_by_hand(photos, tmp_path):
    """As the documentation shows it: landmarks from anywhere."""
    wanted = faces_in_folder(photos)
    own = WantedFaces(**{**vars(wanted), "landmarks": np.tile(POINTS, (len(wanted), 1, 1))})
    assert align_photos(own, out=tmp_path / "out").num_aligned == 7


def test_photo_that_needs_a_package_is_aligned_once_it_is_installed(photos, tmp_path, monkeypatch):
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    (photos / "Ann" / "3.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=OwnDetector())
    assert (counts.num_aligned, counts.num_rejected) == (7, {"needs_package": 1})
    assert 'needs_package,"a HEIC photo' in (tmp_path / "out" / "report.csv").read_text()
    opened = SimpleNamespace(to_pillow=lambda: Image.fromarray(pixels(9) | 1))
    monkeypatch.setitem(sys.modules, "pi_heif", SimpleNamespace(open_heif=lambda content, convert_hdr_to_8bit: opened))
    counts = align_photos(faces_in_folder(photos), out=tmp_path / "out", detector=OwnDetector())
    assert (counts.num_aligned, counts.num_done_before, counts.num_rejected) == (8, 7, {})
    assert (tmp_path / "out" / "Ann" / "3.jpg").is_file()


def test_what_several_processes_have_noted_is_forgotten_where_settings_change(photos, tmp_path):
    def none(pixels: Sequence[np.ndarray]) -> list[Faces]:
        return [faces_of() for _ in pixels]

    out = tmp_path / "out"
    align_photos(faces_in_folder(photos), out=out, detector=none, described={"detector": "strict"})
    os.replace(out / JOURNAL_FILE, out / JOURNAL_PARTS.replace("*", "1"))  # as killed processes leave it
    counts = align_photos(faces_in_folder(photos), out=out, detector=OwnDetector(), described={"detector": "lax"})
    assert (counts.num_aligned, counts.num_done_before) == (7, 0)
