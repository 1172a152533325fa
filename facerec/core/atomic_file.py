"""Writes a file under another name, flushes it to disk and renames it, so that the file is complete or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens `<path>.partial-<process id>` for writing; renames it to `path` when the block ends without an error.

    An error inside the block removes the partial file and leaves `path` unchanged. An OSError that names no file, such
    as that of a full disk, then names `path`.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
