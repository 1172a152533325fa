"""Counts findings of an inspection by kind, and writes each to a CSV immediately, so that millions need no memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from facerec.core.atomic_file import atomic_file
from facerec.core.csv_lines import csv_row

NUM_KEPT = 3
"""How many findings of each kind are kept, because one fault can have thousands of consequences."""


class Finding(NamedTuple):
    """One line of the CSV.

    Attributes:
        kind: kind of the finding, in a word or two.
        file: the file.
        record: the place in the file; empty for the whole file.
        what: the description.
    """

    kind: str
    file: str
    record: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}{self.record and f', {self.record}'}: {self.what}"


class Findings:
    """Findings of one sort, such as the faults of a set.

    Attributes:
        counts: number of findings of each kind.
        first: the first few findings of each kind.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Finding] = []
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, kind: str, file: object, record: str, what: str) -> None:
        """Counts a finding, and writes it while `written_to` is active."""
        finding = Finding(kind, str(file), record, what)
        self.counts[kind] += 1
        if self.counts[kind] <= NUM_KEPT:
            self.first.append(finding)
        if self._file is not None:
            self._file.write(csv_row(*finding))

    @contextmanager
    def written_to(self, path: Path | None) -> Iterator[None]:
        """Writes findings that are added inside the block to a CSV, complete or absent; None: nowhere."""
        if path is None:
            yield
            return
        with atomic_file(path) as file:
            file.write(csv_row(*Finding._fields))
            self._file = file
            try:
                yield
            finally:
                self._file = None
