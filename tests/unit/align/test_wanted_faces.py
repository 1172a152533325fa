"""Which faces are wanted, and where their crops go."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.align.landmark_files import FaceList
from facerec.align.wanted_faces import (
    WantedFaces,
    check_photos_are_there,
    crop_names,
    face_in_photo,
    faces_in_folder,
    faces_in_list,
)
from facerec.core.errors import ConfigError, DataError
from facerec.core.string_table import StringTable


def table(texts) -> StringTable:
    found = StringTable()
    for text in texts:
        found.append(text)
    return found


def listed(paths, identities=None, **more) -> FaceList:
    return FaceList(paths=table(paths), identities=None if identities is None else table(identities), **more)


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def pairs(wanted: WantedFaces) -> list[tuple[str, str]]:
    return [(wanted.identities[label], path) for label, path in zip(wanted.labels, wanted.paths, strict=True)]


def test_sub_folders_are_identities_and_the_rest_is_told(tmp_path):
    names = ("Zoe/2.jpg", "Ann/b/1.PNG", "Ann/a.webp", "Ann/x.psd", "loose.jpg", ".hidden/a.jpg", "Zoe/.a.jpg")
    wanted = faces_in_folder(touched(tmp_path, *names))
    assert pairs(wanted) == [("Ann", "Ann/a.webp"), ("Ann", "Ann/b/1.PNG"), ("Zoe", "Zoe/2.jpg")]
    assert sorted((path, reason) for path, reason, _ in wanted.left_out) == [
        ("Ann/x.psd", "not_image"),
        ("loose.jpg", "no_identity"),
    ]


def test_links_are_followed_once(tmp_path):
    touched(tmp_path / "photos", "Ann/1.jpg")
    touched(tmp_path / "elsewhere", "2.jpg")
    os.symlink(tmp_path / "elsewhere", tmp_path / "photos" / "Bob")
    os.symlink(tmp_path / "photos", tmp_path / "photos" / "Ann" / "loop")
    assert pairs(faces_in_folder(tmp_path / "photos")) == [("Ann", "Ann/1.jpg"), ("Bob", "Bob/2.jpg")]


def test_boxes_go_to_their_photos(tmp_path):
    boxes = listed(["Zoe/2.jpg", "none.jpg"], boxes=np.array([[1.0, 2, 3, 4], [9, 9, 9, 9]]))
    wanted = faces_in_folder(touched(tmp_path, "Zoe/2.jpg", "Ann/1.jpg"), boxes=boxes)
    assert wanted.boxes is not None
    np.testing.assert_array_equal(wanted.boxes, [[np.nan] * 4, [1, 2, 3, 4]])


def test_photos_that_lie_together_and_one_photo_have_no_identities_and_their_crops_no_folder(tmp_path):
    boxes = listed(["2.jpg"], boxes=np.array([[1.0, 2, 3, 4]]))
    wanted = faces_in_folder(touched(tmp_path, "2.jpg", "1.PNG", "1.jpg", "Ann/note.txt"), boxes=boxes)
    assert not wanted.has_identities and pairs(wanted) == [("", "1.PNG"), ("", "1.jpg"), ("", "2.jpg")]
    assert [*crop_names(wanted, suffix=".png")] == ["1.png", "1.jpg.png", "2.png"]
    np.testing.assert_array_equal(wanted.boxes, [[np.nan] * 4] * 2 + [[1, 2, 3, 4]])  # type: ignore[arg-type]
    one = face_in_photo(wanted.base / "2.jpg")
    assert (one.base, [*one.paths], one.has_identities) == (wanted.base, ["2.jpg"], False)
    with pytest.raises(DataError, match=r"note.txt: expected a folder, or a photo whose name ends with"):
        face_in_photo(wanted.base / "Ann" / "note.txt")


def test_folders_without_a_photo_are_named(tmp_path):
    touched(tmp_path, "Ann/1.jpg", "Bob/note.txt", "__MACOSX/2.txt", ".git/config")
    (tmp_path / "Zoe" / "later").mkdir(parents=True)
    left_out = faces_in_folder(tmp_path).left_out
    assert [(path, reason) for path, reason, _ in left_out] == [
        ("Bob", "empty_folder"),
        ("Bob/note.txt", "not_image"),
        ("Zoe", "empty_folder"),
    ]


def test_folder_without_a_photo_is_refused(tmp_path):
    with pytest.raises(DataError, match="no photo in it"):
        faces_in_folder(touched(tmp_path, "Ann/note.txt"))


def test_list_is_grouped_by_identity_with_its_landmarks():
    landmarks = np.arange(40.0).reshape(4, 5, 2)
    faces = listed(["c.jpg", "a.jpg", "b.jpg", "a.jpg"], ["Zoe", "Ann", "Zoe", "Bob"], landmarks=landmarks)
    wanted = faces_in_list(faces, base=Path("/photos"))
    assert pairs(wanted) == [("Ann", "a.jpg"), ("Bob", "a.jpg"), ("Zoe", "c.jpg"), ("Zoe", "b.jpg")]
    np.testing.assert_array_equal(wanted.landmarks, landmarks[[1, 3, 0, 2]])  # type: ignore[arg-type]


def test_identities_come_from_another_file_or_the_first_folder():
    faces = listed(["1.jpg", "2.jpg", "3.jpg"])
    wanted = faces_in_list(faces, base=Path(), identities=listed(["3.jpg", "1.jpg"], ["7", "5"]))
    assert pairs(wanted) == [("5", "1.jpg"), ("7", "3.jpg")]
    assert wanted.left_out == [("2.jpg", "no_identity", "no line of identities names it")]
    wanted = faces_in_list(listed(["Ann/x/1.jpg", "/set/Bob/1.jpg", "loose.jpg", "../Eve/1.jpg"]), base=Path())
    assert pairs(wanted) == [("Ann", "Ann/x/1.jpg"), ("Bob", "/set/Bob/1.jpg")]
    assert [path for path, *_ in wanted.left_out] == ["loose.jpg", "../Eve/1.jpg"]


def test_lists_that_contradict_are_refused():
    with pytest.raises(ConfigError, match="already has identities"):
        faces_in_list(listed(["1.jpg"], ["Ann"]), base=Path(), identities=listed(["1.jpg"], ["Bob"]))
    with pytest.raises(DataError, match=r"1\.jpg has two lines, with Ann and Bob"):
        faces_in_list(listed(["1.jpg"]), base=Path(), identities=listed(["1.jpg"] * 2, ["Ann", "Bob"]))
    boxes = listed(["1.jpg"] * 2, boxes=np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]))
    with pytest.raises(DataError, match=r"two lines, with \(1.0, 2.0, 3.0, 4.0\) and .*list them in identities=, each"):
        faces_in_list(listed(["1.jpg"], ["Ann"]), base=Path(), boxes=boxes)
    empty = listed(["1.jpg"] * 2, boxes=np.full((2, 4), np.nan))
    assert np.isnan(faces_in_list(listed(["1.jpg"], ["Ann"]), base=Path(), boxes=empty).boxes).all()
    with pytest.raises(DataError, match=r"none of the 1 listed photos has an identity \(the first is 1.jpg\)"):
        faces_in_list(listed(["1.jpg"]), base=Path())


def test_list_of_which_a_few_photos_are_there_is_taken_and_one_of_which_none_is_refused(tmp_path):
    faces = listed([f"Ann/{number}.jpg" for number in range(2000)])
    check_photos_are_there(faces_in_list(faces, base=touched(tmp_path / "few", "Ann/777.jpg")))
    photos = touched(tmp_path / "photos", "Ann/0.jpg")
    for base in (tmp_path, photos / "Ann"):
        with pytest.raises(DataError, match=rf"none .* such as {base}/Ann/0\.jpg\. photos={photos} would"):
            check_photos_are_there(faces_in_list(faces, base=base))


def names_of(paths, identities) -> list[str]:
    return list(crop_names(faces_in_list(listed(paths, identities), base=Path()), suffix=".jpg"))


def test_crop_keeps_the_name_of_its_photo_unless_that_is_taken():
    paths = ["Ann/1.jpg", "Ann/1.png", "Ann/old/1.jpg", "Ann/1.png", "x/1.jpg", "Ann/A.b.jpeg"]
    assert names_of(paths, ["Ann"] * 4 + ["Bob"] + ["Ann"]) == [
        "Ann/1.jpg",
        "Ann/Ann_1.jpg",
        "Ann/Ann_old_1.jpg",
        "Ann/Ann_1.png.jpg",
        "Ann/A.b.jpg",
        "Bob/1.jpg",
    ]


def test_names_stay_in_the_folder_and_visible():
    assert names_of(["../../x/..jpg", ".a.jpg"], ["../../etc", "."]) == ["%2E/%2Ea.jpg", "%2E.%2F..%2Fetc/%2E.jpg.jpg"]


@given(st.lists(st.tuples(st.text("aA./%", min_size=1, max_size=4), st.text("a./%", min_size=1, max_size=3))))
def test_every_face_has_a_crop_of_its_own(faces):
    if not faces:
        return
    names = names_of([path for path, _ in faces], [identity for _, identity in faces])
    assert len({name.casefold() for name in names}) == len(faces)
    for name in names:
        assert name.count("/") == 1 and not any(part.startswith(".") for part in name.split("/"))


def test_photos_that_cannot_be_looked_for_are_no_obstacle_to_those_that_are_there(tmp_path):
    touched(tmp_path, "in/Ann/1.jpg")
    paths = ["x" * 400 + ".jpg", "a\0b.jpg", "Ann/1.jpg"]
    wanted = faces_in_list(listed(paths, ["Ann"] * 3), base=tmp_path / "in")
    check_photos_are_there(wanted)
    missing = faces_in_list(listed(paths[:2], ["Ann"] * 2), base=tmp_path / "in")
    with pytest.raises(DataError, match=r"none of the listed photos exists, such as .*relative to photos="):
        check_photos_are_there(missing)
    above = faces_in_list(listed(paths, ["Ann"] * 3), base=tmp_path)
    with pytest.raises(DataError, match=rf"photos={tmp_path}/in would fit"):
        check_photos_are_there(above)
