"""RecordIO: what is written is read, InsightFace's bytes are reproduced, and damage is named."""

import os
import pickle
import struct
from itertools import groupby
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facerec.core.errors import DataError
from facerec.data.records.recordio import MAGIC, RecordReader, frame, pack, unpack, write_record_set

# Pieces that fall on and off the multiples of 4, with the magic among them.
PAYLOADS = st.lists(st.sampled_from([MAGIC, MAGIC, b"", b"a", b"bc", b"def", b"ghij", bytes(9)]), max_size=12).map(
    b"".join
)


def _naive_parts(data: bytes) -> list[tuple[int, bytes]]:
    """Frames of a file, read one after the other: (part flag, bytes)."""
    parts, at = [], 0
    while at < len(data):
        magic, word = struct.unpack_from("<4sI", data, at)
        assert magic == MAGIC
        length = word & 0x1FFFFFFF
        parts.append((word >> 29, data[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 4
    assert at == len(data)
    return parts


def _write(root: Path, payloads: list[bytes]) -> RecordReader:
    offset = 0
    with open(root / "train.rec", "wb") as rec, open(root / "train.idx", "w") as idx:
        for key, payload in enumerate(payloads):
            idx.write(f"{key}\t{offset}\n")
            offset += rec.write(frame(payload))
    return RecordReader(rec=root / "train.rec", idx=root / "train.idx")


@given(payloads=st.lists(st.one_of(PAYLOADS, st.binary(max_size=8)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_read_back_as_written(payloads: list[bytes], tmp_path: Path) -> None:
    reader = _write(tmp_path, payloads)
    assert [reader.read(row) for row in range(len(reader))] == payloads


@pytest.mark.parametrize("length", range(9))
def test_short_records_are_padded_to_four_bytes(length: int, tmp_path: Path) -> None:
    reader = _write(tmp_path, [bytes(range(length)), b"next"])
    assert reader.offsets[1] == 8 + (length + 3) // 4 * 4
    assert reader.read(0) == bytes(range(length))


def test_records_are_cut_at_the_magic_as_dmlc_cuts_them() -> None:
    assert _naive_parts(frame(b"plain" + MAGIC)) == [(0, b"plain" + MAGIC)]  # byte 5: not a multiple of 4
    assert _naive_parts(frame(b"1234" + MAGIC + b"56")) == [(1, b"1234"), (3, b"56")]
    assert _naive_parts(frame(MAGIC)) == [(1, b""), (3, b"")]
    assert _naive_parts(frame(MAGIC + MAGIC + b"1234" + MAGIC)) == [(1, b""), (2, b""), (2, b"1234"), (3, b"")]


def test_parts_of_any_length_are_joined_with_the_magic(tmp_path: Path) -> None:
    reader = _write(tmp_path, [b"replaced below"])
    parts = ((1, b"abc"), (2, b"defgh"), (3, b"i"))  # dmlc cuts at multiples of 4; the frame's padding allows any
    (tmp_path / "train.rec").write_bytes(
        b"".join(
            MAGIC + struct.pack("<I", part << 29 | len(data)) + data + bytes(-len(data) % 4) for part, data in parts
        )
    )
    assert reader.read(0) == b"abc" + MAGIC + b"defgh" + MAGIC + b"i"


def test_record_longer_than_the_first_read_is_whole(tmp_path: Path) -> None:
    big = np.random.default_rng(0).bytes(100_003)
    assert _write(tmp_path, [b"x", big]).read(1) == big  # the last: nothing tells its size
    larger = big * 12
    assert _write(tmp_path, [b"x", larger, b"y"]).read(1) == larger  # more than is fetched at once


def test_random_reads_fetch_each_record_at_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(int(size)) for size in rng.integers(0, 40_000, 300)]
    reader = _write(tmp_path, payloads)
    starts = [*reader.offsets.tolist(), reader.size_bytes]
    fetched: list[tuple[int, int]] = []

    def counted(fd: int, size: int, start: int, pread=os.pread) -> bytes:
        fetched.append((start, size))
        return pread(fd, size, start)

    monkeypatch.setattr(os, "pread", counted)
    rows = rng.integers(0, 299, 1000).tolist()
    assert [reader.read(row) for row in rows] == [payloads[row] for row in rows]
    assert fetched == [(starts[row], starts[row + 1] - starts[row]) for row in rows]


def test_labels_are_a_number_or_an_array() -> None:
    one = unpack(pack(7.0, id=3, image=b"jpeg"))
    assert (one.labels.tolist(), one.id, one.id2, one.image) == ([7.0], 3, 0, b"jpeg")
    three = unpack(pack((7.0, 0.5, -1.0), id=9, id2=4, image=b"png"))
    assert (three.labels.tolist(), three.id, three.id2, three.image) == ([7.0, 0.5, -1.0], 9, 4, b"png")
    assert pack(7.0, id=3)[:8] == struct.pack("<If", 0, 7.0)


def test_labels_are_read_without_the_images_whatever_their_form(tmp_path: Path) -> None:
    (magic_number,), (magic_label,) = struct.unpack("<I", MAGIC), struct.unpack("<f", MAGIC)
    payloads = [
        pack(5.0, id=0, image=b"i" * 50),
        pack((6.0, 99.0), id=1, image=b"i"),
        pack(magic_label, id=2, image=b"i"),  # cut inside its header, as is the next
        pack((7.0,), id=magic_number, image=b"i"),
        pack((8.0,), id=3, image=MAGIC * 3),
        pack(9.0, id=4),
    ]
    reader = _write(tmp_path, payloads)
    assert reader.first_labels(0, 6).tolist() == [5.0, 6.0, magic_label, 7.0, 8.0, 9.0]
    assert reader.first_labels(1, 4).tolist() == [6.0, magic_label, 7.0]


def test_threads_processes_and_pickles_read_the_same(tmp_path: Path) -> None:
    payloads = [bytes([i]) * (i * 37 % 300) for i in range(200)]
    reader = _write(tmp_path, payloads)
    assert reader.read(3) == payloads[3]  # opened before the fork
    assert len(pickle.dumps(reader)) < 1000
    assert pickle.loads(pickle.dumps(reader)).read(7) == payloads[7]
    with ThreadPool(8) as threads:
        assert threads.map(reader.read, range(200)) == payloads
    with get_context("fork").Pool(2) as processes:
        assert processes.map(reader.read, range(200)) == payloads


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.idx: cannot be opened"):
        len(RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx"))
    _write(tmp_path, [b"x"])
    (tmp_path / "train.rec").unlink()
    with pytest.raises(DataError, match=r"train\.rec: cannot be opened"):
        len(RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx"))


@pytest.mark.parametrize("kept_bytes", [0, 50, 80, 84, 88, 119])
def test_truncated_file_is_named_at_the_first_use_of_any_record(kept_bytes: int, tmp_path: Path) -> None:
    _write(tmp_path, [bytes(32)] * 3)
    content = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.rec").write_bytes(content[:kept_bytes])
    reader = RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx")
    message = rf"train\.rec: the file has {kept_bytes} bytes, but its last record, 2, begins at byte 80 and ends later"
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            reader.read(0)


def test_record_that_runs_beyond_the_end_is_named_with_its_byte(tmp_path: Path) -> None:
    _write(tmp_path, [bytes(32)] * 3)
    content = bytearray((tmp_path / "train.rec").read_bytes())
    content[40 + 5] = 0xFF  # the length of record 1
    (tmp_path / "train.rec").write_bytes(content)
    reader = RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx")
    with pytest.raises(DataError, match=r"record 1 \(byte 40\): it ends at byte 65360, but the file has 120 bytes"):
        reader.read(1)
    assert reader.read(2) == bytes(32)


def test_damaged_frames_are_named_with_record_and_byte(tmp_path: Path) -> None:
    _write(tmp_path, [bytes(32), b"1234" + MAGIC + b"5678", bytes(32)])
    content = bytearray((tmp_path / "train.rec").read_bytes())
    content[0] ^= 1  # the magic of record 0
    content[40 + 7] = 3 << 5  # part flag of record 1: last instead of first
    (tmp_path / "train.rec").write_bytes(content)
    reader = RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx")
    with pytest.raises(DataError, match=r"train\.rec, record 0 \(byte 0\): no record begins"):
        reader.read(0)
    assert np.isnan(reader.first_labels(0, 1)).all()
    with pytest.raises(DataError, match=r"record 1 \(byte 40\): its parts do not follow"):
        reader.read(1)
    assert reader.read(2) == bytes(32)


def test_record_too_short_for_its_labels_is_named(tmp_path: Path) -> None:
    reader = _write(tmp_path, [b"short", struct.pack("<IfQQ", 1000, 0.0, 0, 0)])
    for row in (0, 1):
        with pytest.raises(DataError, match=rf"record {row} .*too few"):
            reader.record(row)
        assert np.isnan(reader.first_labels(row, row + 1)).all()


def test_written_set_has_insightface_layout(tmp_path: Path) -> None:
    write_record_set(tmp_path / "set", [[b"a0", b"a1"], [b"b0"], [MAGIC * 2]], height_px=96, width_px=80)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["property", "train.idx", "train.rec"]
    assert (tmp_path / "set" / "property").read_text() == "3,96,80\n"
    reader = RecordReader(rec=tmp_path / "set" / "train.rec", idx=tmp_path / "set" / "train.idx")
    assert [reader.key(row) for row in range(len(reader))] == list(range(8))
    found = [(r.labels.tolist(), r.id, r.image) for r in map(reader.record, range(8))]
    assert found == [
        ([5.0, 8.0], 0, b""),
        ([0.0], 1, b"a0"),
        ([0.0], 2, b"a1"),
        ([1.0], 3, b"b0"),
        ([2.0], 4, MAGIC * 2),
        ([1.0, 3.0], 5, b""),
        ([3.0, 4.0], 6, b""),
        ([4.0, 5.0], 7, b""),
    ]


def test_writer_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    def breaks():
        yield [b"a"]
        raise RuntimeError("drawing failed")

    with pytest.raises(RuntimeError, match="drawing failed"):
        write_record_set(tmp_path, breaks())
    with pytest.raises(DataError, match="identity 1 has no image"):
        write_record_set(tmp_path, [[b"a"], []])
    with pytest.raises(DataError, match="no identity"):
        write_record_set(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    write_record_set(tmp_path, [[b"a"]])
    before = (tmp_path / "train.rec").read_bytes()
    with pytest.raises(DataError, match="already exists"):
        write_record_set(tmp_path, [[b"b"]])
    assert (tmp_path / "train.rec").read_bytes() == before


def test_writer_reproduces_a_set_in_insightface_layout_to_the_byte(real_data: Path, tmp_path: Path) -> None:
    celeba_wild = real_data / "celeba_wild"
    reader = RecordReader(rec=celeba_wild / "train.rec", idx=celeba_wild / "train.idx")
    records = (reader.record(row) for row in range(1, 6265))
    write_record_set(
        tmp_path, ((r.image for r in group) for _, group in groupby(records, key=lambda r: float(r.labels[0])))
    )
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / name).read_bytes() == (celeba_wild / name).read_bytes(), name


def test_offset_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    _write(tmp_path, [b"first", b"second"])
    for number in (2**63 - 1, 10**25):
        (tmp_path / "train.idx").write_text(f"0\t0\n1\t{number}\n")
        reader = RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx")
        with pytest.raises(DataError, match="begins at byte 9223372036854775807 and ends later"):
            reader.read(0)


def test_record_that_the_disk_does_not_give_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = _write(tmp_path, [b"one", b"two"])
    start = int(reader.offsets[1])

    def failing(fd: int, size: int, offset: int, pread=os.pread) -> bytes:
        if offset == start:
            raise OSError(5, "Input/output error")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    assert reader.read(0) == b"one"
    with pytest.raises(
        DataError, match=rf"record 1 \(byte {start}\): byte {start} cannot be read \(Input/output error\)"
    ):
        reader.read(1)


@pytest.mark.parametrize("name", ["train.rec", "train.idx"])
def test_git_lfs_pointer_in_place_of_a_file_is_named(name, tmp_path):
    write_record_set(tmp_path, [[b"image"]])
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:8f23\nsize 232589\n")
    with pytest.raises(DataError, match=f"{name} is a Git LFS pointer, not the file itself: .*git lfs pull"):
        len(RecordReader(rec=tmp_path / "train.rec", idx=tmp_path / "train.idx"))
