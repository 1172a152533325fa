"""Where facerec keeps what it can make again; arrays that were made of files, and are mapped from there."""

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from facerec.core.atomic_file import atomic_file

UNUSED_DAYS = 90
"""An array that nobody has mapped for so long is removed when another one is kept."""
_KINDS = ("index", "labels")


def cache_folder() -> Path:
    """$FACEREC_CACHE, else ~/.cache/facerec; it may not be there yet."""
    return Path(os.environ.get("FACEREC_CACHE") or "~/.cache/facerec").expanduser()


def array_path(kind: str, files: Sequence[tuple[Path, os.stat_result]], *, also: str = "") -> Path:
    """Where the array is kept that was made of files as they are: of this place, size and time of change.

    Args:
        kind: index or labels.
        files: each with its status.
        also: what else the array depends on.
    """
    assert kind in _KINDS
    parts = [f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}" for path, status in files]
    return cache_folder() / f"{kind}-{hashlib.sha256(chr(0).join([*parts, also]).encode()).hexdigest()[:24]}.npy"


def mapped_array(path: Path) -> np.ndarray | None:
    """The int64 (N,) that `kept_array` has written, read-only; None where there is nothing, or not that."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if array.dtype != np.int64 or array.ndim != 1:
        return None
    with suppress(OSError):
        os.utime(path)  # in use; not every disk keeps the time of reading
    return array


def kept_array(path: Path, array: np.ndarray) -> np.ndarray | None:
    """The same int64 (N,), mapped from the file that it now is in; None where none can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unused(path.parent)
        with atomic_file(path) as file:
            np.save(file, array)
    except OSError:
        return None
    return mapped_array(path)


def _remove_unused(folder: Path) -> None:
    """Arrays, and what is left of those whose writing was cut off. What has them mapped keeps them until it ends."""
    oldest_s = time.time() - UNUSED_DAYS * 24 * 3600
    for kind in _KINDS:
        for path in folder.glob(f"{kind}-*.npy*"):
            with suppress(OSError):  # another process was faster, or owns it
                status = path.stat()
                if max(status.st_mtime, status.st_atime) < oldest_s:
                    path.unlink()
