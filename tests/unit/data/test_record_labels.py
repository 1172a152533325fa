"""Labels of large record files are read once, and mapped until a file changes; names come from identities.csv."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.core.errors import DataError
from facerec.data import record_index
from facerec.data.identity_names import read_identity_names
from facerec.data.packing import pack_training_set
from facerec.data.recordio import RecordReader, write_record_set
from facerec.data.sources import RecordSource, open_source


@pytest.fixture
def large(tmp_path, monkeypatch) -> Path:
    """A set that counts as large."""
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record_index, "CACHED_FROM_BYTES", 1)
    write_record_set(tmp_path / "set", [[b"one", b"two"], [b"six"], [b"four"]])
    return tmp_path / "set"


def opened(root: Path) -> RecordSource:
    return RecordSource(root=str(root))


def test_labels_are_read_once_and_then_mapped(large, tmp_path, monkeypatch):
    first = opened(large)
    expected = [0, 0, 1, 2]
    assert first.labels.tolist() == expected and first.labels.dtype == np.int64
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()) == ["index", "labels"]
    fingerprint = first.fingerprint()
    with monkeypatch.context() as patched:
        patched.setattr(RecordReader, "first_labels", None)  # the headers are not read again
        second = opened(large)
        assert isinstance(second.labels, np.memmap) and second.labels.tolist() == expected
        assert (second.num_classes, second.fingerprint()) == (3, fingerprint)
        np.testing.assert_array_equal(second.labels[np.array([3, 0])], [2, 0])
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(record_index, "CACHED_FROM_BYTES", 1 << 24)
    assert opened(large).fingerprint() == fingerprint and not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["train.rec", "train.idx"])
def test_labels_are_read_anew_when_a_file_has_changed(name, large, tmp_path):
    assert opened(large).labels.tolist() == [0, 0, 1, 2]
    before = {file: (large / file).stat() for file in ("train.rec", "train.idx")}
    write_record_set(tmp_path / "other", [[b"one"], [b"two", b"six"], [b"four"]])
    for file in ("train.rec", "train.idx"):  # the same sizes
        (large / file).write_bytes((tmp_path / "other" / file).read_bytes())
        assert (large / file).stat().st_size == before[file].st_size
        os.utime(large / file, ns=(0, before[file].st_mtime_ns + (file == name)))
    assert opened(large).labels.tolist() == [0, 1, 1, 2]


def test_labels_that_contradict_a_new_property_are_refused_though_they_are_kept(large):
    assert opened(large).num_classes == 3
    (large / "property").write_text("2,112,112\n")
    with pytest.raises(DataError, match="property says 2"):
        _ = opened(large).labels


def test_labels_of_another_number_are_not_taken(large, tmp_path):
    assert opened(large).labels.tolist() == [0, 0, 1, 2]
    (kept,) = (tmp_path / "cache").glob("labels-*.npy")
    with open(kept, "wb") as file:
        np.save(file, np.array([0, 0]))
    assert opened(large).labels.tolist() == [0, 0, 1, 2]


@pytest.fixture
def packed(tmp_path) -> Path:
    """Packed from folders: Ann has 2 images, Bob 1, José 1."""
    rng = np.random.default_rng(0)
    for name in ("Ann/0.png", "Ann/1.png", "Bob/2.png", "José/3.png"):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", rng.integers(0, 256, (112, 112, 3), dtype=np.uint8))[1].tobytes())
    source = open_source(str(tmp_path / "crops"))
    pack_training_set(source, tmp_path / "packed", samples=np.arange(4), num_threads=1)
    return tmp_path / "packed"


def test_packed_set_knows_the_names_of_its_identities(packed):
    source = opened(packed)
    assert source.has_names and source.identities == ["Ann", "Bob", "José"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,Bob,1", "1,Bob,2", "line 3: label 1 with 2 images; the record file has 1 of label 1"),
        ("1,Bob,1", "2,Bob,1", "line 3: label 2 with 1 images"),
        ("1,Bob,1\n", "", "line 3: label 2 with 1 images"),
        ("2,José,1\n", "", "2 names; the record file has 3 identities"),
        ("2,José,1\n", "2,José,1\n3,Cid,1\n", "label 3 with 1 images; the record file has no of label 3"),
        ("1,Bob,1", "1,Ann,1", "a name is empty, or comes twice"),
        ("identity", "name", "the header lacks identity"),
    ],
)
def test_names_of_another_set_are_not_taken(old, new, message, packed):
    path = packed / "identities.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_identity_names(path, np.array([2, 1, 1]))
    source = opened(packed)
    assert not source.has_names and source.identities == ["0", "1", "2"]
    path.unlink()
    assert opened(packed).identities == ["0", "1", "2"]
