"""A table of photos is a set like any other."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.align.crops import align_crop
from facerec.align.photo_table import LANDMARK_COLUMNS
from facerec.align.similarity import TEMPLATE_112
from facerec.core.errors import DataError
from facerec.data.sources import FolderSource, open_source
from facerec.data.sources.list_source import ListSource


def pixels(seed: int, size: tuple[int, int] = (112, 112)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())


@pytest.fixture
def folders(tmp_path) -> Path:
    for number, name in enumerate(["Ann/0.png", "Ann/1.png", "Bob/2.png"]):
        write_png(tmp_path / "faces" / name, pixels(number))
    return tmp_path / "faces"


def write_table(folders: Path, lines: list[str]) -> ListSource:
    path = folders / "list.csv"
    path.write_text("\n".join(["path,identity", *lines]) + "\n")
    source = open_source(str(path))
    assert isinstance(source, ListSource)
    return source


def test_table_of_crops_holds_what_the_folders_hold(folders):
    listed = write_table(folders, ["Ann/0.png,Ann", "Ann/1.png,Ann", f"{folders}/Bob/2.png,Bob"])
    folder = open_source(str(folders))
    assert isinstance(folder, FolderSource)
    assert (len(listed), listed.num_classes, listed.identities) == (len(folder), 2, ["Ann", "Bob"])
    np.testing.assert_array_equal(listed.labels, folder.labels)
    for index in range(3):
        np.testing.assert_array_equal(listed.image(index), folder.image(index))
        assert listed.name(index) == folder.name(index)
    with pytest.raises(IndexError):
        listed.image(3)


def test_photos_are_aligned_to_the_size_that_the_keys_ask_for(tmp_path):
    photo, points = pixels(5, (300, 200)), TEMPLATE_112 * 1.5 + [20, 90]
    write_png(tmp_path / "photo.png", photo)
    numbers = ",".join(map(repr, points.reshape(-1).tolist()))
    (tmp_path / "list.csv").write_text(f"path,identity,{','.join(LANDMARK_COLUMNS)}\nphoto.png,Ann,{numbers}\n")
    usual, narrow = (open_source(str(tmp_path / "list.csv"), width_px=width) for width in (112, 96))
    np.testing.assert_array_equal(narrow.image(0), usual.image(0)[:, 8:104])
    large = open_source(str(tmp_path / "list.csv"), height_px=224, width_px=224)
    np.testing.assert_array_equal(large.image(0), align_crop(photo, points, size_px=224))
    assert len({source.fingerprint() for source in (usual, narrow, large)}) == 3
    assert usual.fingerprint() == open_source(str(tmp_path / "list.csv")).fingerprint()


def test_photos_are_aligned_as_they_are_read(tmp_path):
    photo, points = pixels(5, (300, 200)), TEMPLATE_112 * 1.5 + [20, 90]
    write_png(tmp_path / "photo.png", photo)
    numbers = ",".join(map(repr, points.reshape(-1).tolist()))
    (tmp_path / "list.csv").write_text(f"path,identity,{','.join(LANDMARK_COLUMNS)}\nphoto.png,Ann,{numbers}\n")
    source = open_source(str(tmp_path / "list.csv"))
    np.testing.assert_array_equal(source.image(0), align_crop(photo, points))


def test_what_cannot_be_read_is_named(folders):
    (folders / "bad.png").write_bytes(b"no image")
    write_png(folders / "large.png", pixels(0, (250, 250)))
    source = write_table(folders, ["bad.png,Ann", "large.png,Ann", "none.png,Ann"])
    for index, message in enumerate(
        ["bad.png: 8 bytes that do not", "large.png: the image is 250 x 250", "none.png: "]
    ):
        with pytest.raises(DataError, match=message):
            source.image(index)
    with pytest.raises(DataError, match=r"none\.png: cannot be read"):
        source.fingerprint()


def test_five_equal_points_are_refused_with_the_photo(tmp_path):
    write_png(tmp_path / "photo.png", pixels(1))
    header = f"path,identity,{','.join(LANDMARK_COLUMNS)}\n"
    (tmp_path / "list.csv").write_text(header + "photo.png,Ann" + ",3" * 10 + "\n")
    with pytest.raises(DataError, match=r"photo\.png: "):
        open_source(str(tmp_path / "list.csv")).image(0)


def test_fingerprint_follows_the_content_and_not_the_place(folders, tmp_path):
    lines = ["Ann/0.png,Ann", "Ann/1.png,Ann", "Bob/2.png,Bob"]
    before = write_table(folders, lines).fingerprint()
    assert write_table(folders, [*lines[:2], "Bob/2.png,Ann"]).fingerprint() != before
    assert write_table(folders, lines[::-1]).fingerprint() != before
    assert write_table(folders, lines).fingerprint() == before
    moved = folders.rename(tmp_path / "elsewhere")
    assert open_source(str(moved / "list.csv")).fingerprint() == before
    write_png(moved / "Bob" / "2.png", pixels(2)[:, :, :1].repeat(3, axis=2))
    assert open_source(str(moved / "list.csv")).fingerprint() != before


@pytest.mark.parametrize("kind", ["table", "folders"])
def test_pickled_source_is_small_and_reads_again(kind, folders):
    for number in range(300):
        write_png(folders / "Cid" / f"{number}.png", pixels(number % 2))
    lines = [f"Cid/{number}.png,Cid" for number in range(300)]
    source = write_table(folders, lines) if kind == "table" else open_source(str(folders))
    assert len(source) >= 300
    content = pickle.dumps(source)
    assert len(content) < 500
    np.testing.assert_array_equal(pickle.loads(content).image(len(source) - 1), pixels(1))


def test_real_photos_are_aligned(real_data):
    source = open_source(str(real_data / "lfw_photos" / "landmarks.csv"))
    assert isinstance(source, ListSource) and len(source) == 240
    assert source.num_classes == len(set(source.identities)) == source.labels.max() + 1
    assert all(source.image(index).std() > 10 for index in range(0, 240, 40))
