"""Labels of large record files are read once, and mapped until a file changes; names come from identities.csv."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facerec.core.errors import DataError
from facerec.data.packing import pack_training_set
from facerec.data.records import record_index
from facerec.data.records.recordio import RecordReader, write_record_set
from facerec.data.sources import RecordSource, open_source
from facerec.data.sources.identity_names import read_identity_names


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


def spoil(root: Path, rows: list[int]) -> None:
    """Damages the frames of records."""
    offsets = RecordReader(rec=root / "train.rec", idx=root / "train.idx").offsets
    with open(root / "train.rec", "r+b") as file:
        for row in rows:
            file.seek(offsets[row])
            file.write(b"\0\0\0\0")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), counts=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_identity_records_tell_the_labels_of_damaged_records(data, counts, tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    write_record_set(root, [[b"x"] * count for count in counts])
    expected = np.repeat(np.arange(len(counts)), counts)
    lost = data.draw(st.lists(st.integers(1, len(expected)), unique=True, min_size=1))
    about = data.draw(st.lists(st.integers(len(expected) + 1, len(expected) + len(counts)), unique=True, max_size=2))
    spoil(root, lost + about)
    try:
        labels = opened(root).labels
    except DataError as error:  # where an identity's record is damaged as well, or all images are
        assert about or len(lost) == len(expected)
        assert "no record begins" in str(error)
    else:
        assert labels.tolist() == expected.tolist()


def test_records_of_identities_do_not_tell_labels_that_begin_at_1(tmp_path):
    write_record_set(tmp_path, [[b"x"]] * 4)
    reader = RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx")
    offsets = reader.offsets
    with open(tmp_path / "train.rec", "r+b") as file:
        for row in range(1, 5):
            file.seek(offsets[row] + 8 + 4)
            file.write(np.float32(row).tobytes())
    spoil(tmp_path, [2])
    with pytest.raises(DataError, match=r"record 2 \(byte \d+\): no record begins"):
        _ = RecordSource(root=str(tmp_path), renumber=True).labels


@pytest.mark.parametrize("label", [np.inf, 1e30, 1e9, -1, 1.5])
def test_label_that_is_none_beside_a_damaged_record_is_named(label, large):
    offsets = RecordReader(rec=large / "train.rec", idx=large / "train.idx").offsets
    with open(large / "train.rec", "r+b") as file:
        file.seek(offsets[1] + 8 + 4)
        file.write(np.float32(label).tobytes())
    spoil(large, [2])
    with pytest.raises(DataError, match=r"record \d \(byte|no image has the label"):
        _ = opened(large).labels


def test_hole_in_a_file_costs_time_that_grows_with_it_alone(tmp_path):
    write_record_set(tmp_path / "set", [[b"x"] * 3] * 1500)
    spoil(tmp_path / "set", list(range(700, 3800)))
    reads, record = [], RecordReader.record
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RecordReader, "record", lambda self, row: reads.append(row) or record(self, row))
        assert opened(tmp_path / "set").labels.tolist() == np.repeat(np.arange(1500), 3).tolist()
    assert len(reads) < 3200 + 3100  # of each damaged record one, and of each identity one


def test_damaged_record_is_one_image_that_cannot_be_read(large, tmp_path, monkeypatch):
    whole = opened(large).fingerprint()
    spoil(large, [2])  # a second time, so that the labels are read anew
    source = opened(large)
    assert source.labels.tolist() == [0, 0, 1, 2] and source.fingerprint() == whole
    (note,) = source.notes()
    assert note.startswith(f"{large}/train.rec, record 2 (byte ") and "identity's record gives the label" in note
    with pytest.raises(DataError, match=r"record 2 .*no record begins"):
        source.image(1)
    assert len(opened(large).notes()) == 1  # again, with the labels of the whole set in the cache
    pread = os.pread

    def of_a_bad_disk(fd, size, offset):
        if offset == source._reader.offsets[3]:
            raise OSError(errno.EIO, "Input/output error")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", of_a_bad_disk)
    (large / "train.rec").touch()
    assert "record 2 (byte " in opened(large).notes()[0] and ", and 1 more: cannot" in opened(large).notes()[0]


def test_damaged_record_of_im2rec_s_layout_is_named(tmp_path):
    write_record_set(tmp_path / "set", [[b"x"] * 3, [b"y"]], layout="im2rec")
    spoil(tmp_path / "set", [1])
    with pytest.raises(DataError, match=r"record 1 \(byte .*no record begins"):
        _ = opened(tmp_path / "set").labels


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


def test_names_that_cannot_be_read_are_told(packed):
    (packed / "identities.csv").write_text('label,identity,num_images\n0,"Ann,2\n')
    source = opened(packed)
    (note,) = source.notes()
    assert (
        "identities.csv, line 2: unexpected end of data" in note
        and "the names of the identities are their numbers" in note
    )
    assert source.identities == ["0", "1", "2"]


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
        ("1,Bob,1", "1,Ann,1", "a name is empty, or occurs twice"),
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
