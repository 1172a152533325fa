"""Indices of record files: read in blocks, and mapped from the cache folder where they are large."""

import os
from pathlib import Path

import numpy as np
import pytest

from facerec.core.errors import DataError
from facerec.data.records import record_index
from facerec.data.records.record_index import read_index


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, pairs: list[tuple[int, int]], *, end: str = "\n") -> Path:
    path = folder / "a.idx"
    path.write_text("\n".join(f"{key}\t{offset}" for key, offset in pairs) + end)
    return path


@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1 << 24])
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("gap", [None, 0, 20, 39])
def test_index_comes_back_whatever_the_blocks(block_bytes, end, gap, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(record_index, "_BLOCK_BYTES", block_bytes)
    keys = [row + 3 + (gap is not None and row > gap) for row in range(40)]
    offsets = np.random.default_rng(0).permutation(40) * 10**10
    index = read_index(write(tmp_path, list(zip(keys, offsets.tolist(), strict=True)), end=end))
    np.testing.assert_array_equal(index.offsets, offsets)
    assert [index.key(row) for row in range(40)] == keys and index.key(-1) == keys[-1]
    assert (index.keys is None) == (gap in (None, 39))
    assert index.last_row == offsets.argmax() and not cache.exists()
    with pytest.raises(IndexError):
        index.key(40)


def test_large_index_is_mapped_the_second_time_until_it_changes(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(record_index, "CACHED_FROM_BYTES", 1)
    path = write(tmp_path, [(5, 0), (6, 70), (7, 40)])
    first = read_index(path)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(record_index, "_numbers", None)  # the text is not read again
        second = read_index(path)
    for index in (first, second):
        assert isinstance(index.offsets, np.memmap) and index.offsets.tolist() == [0, 70, 40]
        assert (index.key(0), index.key(2), index.last_row) == (5, 7, 1)
    kept.write_bytes(kept.read_bytes()[:-8])  # damaged: made anew
    assert read_index(path).offsets.tolist() == [0, 70, 40]
    write(tmp_path, [(5, 0), (6, 70), (7, 41)])
    os.utime(path, ns=(1, 1))
    assert read_index(path).offsets.tolist() == [0, 70, 41]


def test_large_index_is_read_where_no_cache_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(record_index, "CACHED_FROM_BYTES", 1)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "file"))
    assert read_index(write(tmp_path, [(0, 0), (1, 70)])).offsets.tolist() == [0, 70]


def test_index_in_any_order_is_sorted_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.idx").write_text("5\t900\n2\t100\n9\t0\n")
    index = read_index(tmp_path / "a.idx")
    assert index.keys is not None and index.keys.tolist() == [2, 5, 9]
    assert index.offsets.tolist() == [100, 900, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("0\t0\n1\tx40\n", "line 2 is b'1.tx40'"),
        ("0\t0\n1\n", "line 2"),
        ("0\t0\n1\t-5\n", "line 2"),
        ("0\t0\n1\t4.5\n", "line 2"),
        ("0\t0\n0\t40\n", "key 0 occurs twice"),
    ],
)
def test_damaged_index_names_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.idx").write_text(text)
    with pytest.raises(DataError, match=rf"a\.idx.*{message}"):
        read_index(tmp_path / "a.idx")


def test_line_that_is_no_index_is_counted_from_the_beginning_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(record_index, "_BLOCK_BYTES", 20)
    path = write(tmp_path, [(row, row * 100) for row in range(30)])
    path.write_text(path.read_text().replace("\n17\t", "\n17 x"))
    with pytest.raises(DataError, match=r"a\.idx, line 18 is b'17 x1700'"):
        read_index(path)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not say how a file is mapped")
def test_mapped_index_is_read_by_the_page(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(record_index, "CACHED_FROM_BYTES", 1)
    index = read_index(write(tmp_path, [(1, 0), (2, 70)]))
    (kept,) = cache.iterdir()
    mapping = Path("/proc/self/smaps").read_text().split(str(kept))[1]
    flags = mapping[mapping.index("VmFlags:") :].splitlines()[0].split()
    assert "rr" in flags and index.offsets.tolist() == [0, 70]  # random read
