"""The index (`.idx`) of a record file: lines of key, tab, offset. A large one is read once, and mapped afterwards."""

import codecs
import mmap
import os
import warnings
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from facerec.core.cache import array_path, kept_array, mapped_array
from facerec.core.errors import DataError

CACHED_FROM_BYTES = 1 << 24
"""From this size of an `.idx` on, its numbers and the labels are stored in the cache folder: a million records."""
_BLOCK_BYTES = 1 << 24
_MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class RecordIndex:
    """The offsets of the records in a file.

    Attributes:
        offsets: int64 (N,), in bytes, in the order of the keys; possibly mapped from a file.
        keys: int64 (N,), ascending; None if they are first_key, first_key + 1, ...
        first_key: the first key.
        last_row: the row of the record that is last in the file.
    """

    offsets: np.ndarray
    keys: np.ndarray | None
    first_key: int
    last_row: int

    def __len__(self) -> int:
        return len(self.offsets)

    def key(self, row: int) -> int:
        """Returns the key of a row, 0 .. N - 1; negative rows count from the end."""
        row = range(len(self))[row]
        return self.first_key + row if self.keys is None else int(self.keys[row])

    def keys_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the keys of rows, int64, of the same shape."""
        return self.first_key + rows if self.keys is None else self.keys[rows]

    def row_from(self, key: int) -> int:
        """Returns the first row with this key or a higher one; N if there is none."""
        if self.keys is None:
            return min(max(key - self.first_key, 0), len(self))
        return int(np.searchsorted(self.keys, min(key, int(self.keys[-1]) + 1)))


def is_large(status: os.stat_result) -> bool:
    """True if values read through an `.idx` of this status are stored in the cache folder."""
    return status.st_size >= CACHED_FROM_BYTES


def read_index(path: Path) -> RecordIndex:
    """Reads an `.idx`. A large one without gaps is read once: later, its numbers are mapped from the cache folder.

    Raises:
        DataError: the file is missing or empty, a line is not two numbers, or a key occurs twice.
    """
    try:
        with open(path, "rb") as file:
            return _read(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); a .rec needs its .idx") from None


def read_damaged_index(path: Path, *, on_fault: Callable[[str, str], None]) -> RecordIndex:
    """Reads the readable lines of an `.idx` that `read_index` refuses, one by one.

    Args:
        path: the file.
        on_fault: called with the place (such as "line 7") and the fault. The line is skipped.

    Raises:
        DataError: the file is missing, or no line is valid.
    """
    keys, offsets = array("q"), array("q")
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES), b""), start=1):
                fields = _without_mark(line, number - 1).split()
                try:
                    if len(fields) != 2 or not all(field.isdigit() for field in fields):
                        raise ValueError
                    keys.append(int(fields[0]))
                    offsets.append(int(fields[1]))
                except (ValueError, OverflowError):  # OverflowError: more than 64 bits
                    del keys[len(offsets) :]
                    on_fault(f"line {number}", f"is {line[:60]!r}; expected two numbers, key and offset")
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); a .rec needs its .idx") from None
    if not offsets:
        raise DataError(f"{path}: no line in it has two numbers, key and offset; a .rec needs its .idx")
    unsorted = np.frombuffer(keys, dtype=np.int64)
    order = unsorted.argsort(kind="stable")
    sorted_keys = unsorted[order]
    is_first = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
    for key in sorted_keys[~is_first].tolist():
        on_fault(f"key {key}", "occurs twice; the first line is used, but either may be wrong")
    kept = np.frombuffer(offsets, dtype=np.int64)[order[is_first]]
    sorted_keys = sorted_keys[is_first]
    return RecordIndex(offsets=kept, keys=sorted_keys, first_key=int(sorted_keys[0]), last_row=int(kept.argmax()))


def _read(path: Path, file: BinaryIO) -> RecordIndex:
    status = os.fstat(file.fileno())
    cached = array_path("index", [(path, status)]) if is_large(status) else None
    mapped = None if cached is None else mapped_array(cached)
    if mapped is not None and len(mapped) > 2:
        return _of_stored(mapped)
    num_lines = sum(block.count(b"\n") + (block[-1:] != b"\n") for block in _blocks(file))
    if num_lines == 0:
        raise DataError(f"{path}, line 1 is b''; expected two numbers a line, key and offset")
    stored = np.empty(num_lines + 2, dtype=np.int64)
    offsets = stored[:-2]
    keys: np.ndarray | None = None
    first_key, done = 0, 0
    for block in _blocks(file):
        numbers = _numbers(path, block, lines_before=done)
        rows = slice(done, done + len(numbers) // 2)
        offsets[rows] = numbers[1::2]
        first_key = int(numbers[0]) if done == 0 else first_key
        if keys is None and (numbers[0::2] != np.arange(rows.start, rows.stop) + first_key).any():
            keys = np.empty(num_lines, dtype=np.int64)
            keys[:done] = np.arange(done) + first_key
        if keys is not None:
            keys[rows] = numbers[0::2]
        done = rows.stop
    if keys is not None:
        return _sorted(path, keys, offsets)
    stored[-2:] = first_key, offsets.argmax()
    kept = None if cached is None else kept_array(cached, stored)
    return _of_stored(stored if kept is None else kept)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the file in blocks from its beginning, cut at line ends."""
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        yield block + file.readline()


def _numbers(path: Path, block: bytes, *, lines_before: int) -> np.ndarray:
    """Returns key, offset, key, offset, ...: int64 (2 n,)."""
    block = _without_mark(block, lines_before)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(block, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        numbers = np.empty(0, dtype=np.int64)
    num_lines = block.count(b"\n") + (block[-1:] != b"\n")
    if len(numbers) != 2 * num_lines or numbers.min() < 0:
        raise DataError(f"{path}, {_first_bad_line(block, lines_before)}; expected two numbers a line, key and offset")
    return numbers


def _without_mark(block: bytes, lines_before: int) -> bytes:
    """Returns the bytes without the byte-order mark that an editor may have put at the beginning of the file."""
    return block if lines_before else block.removeprefix(codecs.BOM_UTF8)


def _first_bad_line(block: bytes, lines_before: int) -> str:
    for number, line in enumerate(block.split(b"\n"), start=lines_before + 1):
        fields = line.split()
        if len(fields) != 2 or not all(field.isdigit() for field in fields):
            return f"line {number} is {line[:60]!r}"
    return "a number is too large"


def _sorted(path: Path, keys: np.ndarray, offsets: np.ndarray) -> RecordIndex:
    if not (keys[1:] > keys[:-1]).all():
        order = keys.argsort(kind="stable")
        keys, offsets = keys[order], offsets[order]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            raise DataError(f"{path}: key {keys[twice[0]]} occurs twice; every record has one line")
    return RecordIndex(offsets=offsets, keys=keys, first_key=int(keys[0]), last_row=int(offsets.argmax()))


def _of_stored(stored: np.ndarray) -> RecordIndex:
    """Builds an index from int64 (N + 2,): the offsets, the first key, the last row; a mapped one is read by page."""
    if isinstance(stored.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        stored.base.madvise(mmap.MADV_RANDOM)  # by default each random access fetches hundreds of kB
    return RecordIndex(offsets=stored[:-2], keys=None, first_key=int(stored[-2]), last_row=int(stored[-1]))
