"""Many strings in two arrays: a list of millions of paths takes ten times the memory, and forks do not share it."""

from array import array
from collections.abc import Iterator

import numpy as np


class StringTable:
    """An append-only sequence of strings; file names that are not UTF-8 keep their bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, text: str) -> None:
        """Adds a string at the end."""
        self._bytes += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._bytes))

    def __getitem__(self, index: int) -> str:
        index = range(len(self._ends))[index]
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


def as_int64(numbers: "array[int]") -> np.ndarray:
    """Returns the numbers of an array("q") as int64 (N,), without a copy."""
    return np.frombuffer(numbers, dtype=np.int64)
