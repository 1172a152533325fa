"""The cache folder for files that facerec can make again, and arrays in it that are made from files and mapped."""

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from facerec.core.atomic_file import atomic_file

UNUSED_DAYS = 90
"""Storing an array removes arrays that nobody has mapped for this long."""
_KINDS = ("index", "labels")


def cache_folder() -> Path:
    """Returns $FACEREC_CACHE, else ~/.cache/facerec; the folder may not exist yet."""
    return Path(os.environ.get("FACEREC_CACHE") or "~/.cache/facerec").expanduser()


def array_path(kind: str, files: Sequence[tuple[Path, os.stat_result]], *, also: str = "") -> Path:
    """Returns the path of an array that was made from files with their current place, size and modification time.

    Args:
        kind: index or labels.
        files: each file with its status.
        also: what else the array depends on.
    """
    assert kind in _KINDS
    parts = [f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}" for path, status in files]
    return cache_folder() / f"{kind}-{hashlib.sha256(chr(0).join([*parts, also]).encode()).hexdigest()[:24]}.npy"


def mapped_array(path: Path) -> np.ndarray | None:
    """Returns the int64 (N,) that `kept_array` has written, read-only; None if there is no such array."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if array.dtype != np.int64 or array.ndim != 1:
        return None
    with suppress(OSError):
        os.utime(path)  # marks it as used; not every disk keeps the time of reading
    return array


def kept_array(path: Path, array: np.ndarray) -> np.ndarray | None:
    """Writes an int64 (N,), and returns it mapped from its new file; None if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unused(path.parent)
        with atomic_file(path) as file:
            np.save(file, array)
    except OSError:
        return None
    return mapped_array(path)


def _remove_unused(folder: Path) -> None:
    """Removes old arrays and partly written ones. Processes that have an array mapped keep it until they end."""
    oldest_s = time.time() - UNUSED_DAYS * 24 * 3600
    for kind in _KINDS:
        for path in folder.glob(f"{kind}-*.npy*"):
            with suppress(OSError):  # another process was faster, or owns the file
                status = path.stat()
                if max(status.st_mtime, status.st_atime) < oldest_s:
                    path.unlink()
