"""Arrays in the cache folder: found again while their files stand as they were, and swept when nobody uses them."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from facerec.core.cache import UNUSED_DAYS, array_path, cache_folder, kept_array, mapped_array

DAY_S = 24 * 3600


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def path_of(file: Path, *, kind: str = "labels", also: str = "") -> Path:
    return array_path(kind, [(file, file.stat())], also=also)


def test_array_comes_back_mapped_and_read_only(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"content")
    path = path_of(tmp_path / "a.rec")
    assert mapped_array(path) is None
    for array in (kept_array(path, np.arange(5)), mapped_array(path)):
        assert isinstance(array, np.memmap) and array.tolist() == [0, 1, 2, 3, 4] and not array.flags.writeable
    path.write_bytes(path.read_bytes()[:-1])
    assert mapped_array(path) is None
    np.save(path, np.zeros((2, 2), dtype=np.int64))
    assert mapped_array(path) is None


def test_name_follows_place_size_time_and_what_else_the_array_depends_on(tmp_path):
    file, other = tmp_path / "a.rec", tmp_path / "b.rec"
    for path in (file, other):
        path.write_bytes(b"content")
        os.utime(path, ns=(10, 10))
    names = [path_of(file), path_of(other), path_of(file, also="3 identities"), path_of(file, kind="index")]
    os.utime(file, ns=(10, 11))
    names.append(path_of(file))
    file.write_bytes(b"contents")
    os.utime(file, ns=(10, 10))
    names.append(path_of(file))
    assert len(set(names)) == 6
    file.write_bytes(b"content")
    os.utime(file, ns=(10, 10))
    assert path_of(file) == names[0]


def test_what_nobody_has_used_for_long_is_swept_and_nothing_else(cache):
    cache.mkdir()
    for name in ("index-1.npy", "labels-2.npy", "labels-3.npy", "index-4.npy.partial-77", "faces-5.npy", "index-6.txt"):
        np.save(cache / "array.npy", np.arange(3))
        (cache / "array.npy").rename(cache / name)
    (cache / "synthetic").mkdir()
    long_ago = time.time() - (UNUSED_DAYS + 1) * DAY_S
    for path in cache.iterdir():
        os.utime(path, (long_ago, long_ago))
    lately = time.time() - (UNUSED_DAYS - 1) * DAY_S
    os.utime(cache / "labels-3.npy", (long_ago, lately))
    mapped = mapped_array(cache / "labels-2.npy")  # in use from now on
    assert mapped is not None and (cache / "labels-2.npy").stat().st_mtime > lately
    kept_array(cache / "labels-7.npy", np.arange(2))
    assert sorted(path.name for path in cache.iterdir()) == [
        "faces-5.npy", "index-6.txt", "labels-2.npy", "labels-3.npy", "labels-7.npy", "synthetic",
    ]  # fmt: skip


def test_array_is_not_kept_where_nothing_can_be_written(cache):
    cache.write_text("in the way")
    assert kept_array(cache / "labels-1.npy", np.arange(2)) is None
