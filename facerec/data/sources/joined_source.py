"""Joins several sets; identities with equal names are kept apart or merged."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facerec.core.crop_size import DEFAULT_SIZE_PX, size_keys
from facerec.core.errors import DataError
from facerec.core.file_hash import file_hash
from facerec.core.source import Source
from facerec.data.sources.file_source import FileSource
from facerec.data.sources.record_source import RecordSource


class JoinedSource(Source):
    """The samples of several sets, one set after the other.

    Labels of the first set do not change; new identities follow, in the order of the sets.

    Args:
        parts: the sets.
        merge: none: the identities of each set are separate; by_name: identities with equal names are merged.

    Raises:
        DataError: there are fewer than two sets, or one occurs twice. On first use: the sets' errors; their crops have
            several sizes; or, by name, a set has no names.
    """

    def __init__(
        self, *, parts: Sequence[RecordSource | FileSource], merge: Literal["none", "by_name"] = "none"
    ) -> None:
        roots = [part.root.resolve() for part in parts]
        again = [str(root) for number, root in enumerate(roots) if root in roots[:number]]
        if len(parts) < 2 or again:
            raise DataError(
                f"data.root=[{', '.join(str(part.root) for part in parts)}]: "
                + (f"{again[0]} occurs twice" if again else "expected two or more sets, or one set without brackets")
            )
        self.parts = tuple(parts)
        self.merge = merge
        self._joint: _Joint | None = None
        self._labels: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_joint": None, "_labels": None}

    def __len__(self) -> int:
        return int(self._joined().starts[-1])

    @property
    def num_classes(self) -> int:
        """Returns the number of identities."""
        return len(self._joined().identities)

    @property
    def identities(self) -> list[str]:
        """Returns their names, in the order of the labels; if they are kept apart, after the name of their set."""
        return self._joined().identities

    @property
    def has_names(self) -> bool:
        """True if the names are those of people, and not numbers."""
        return self.merge == "by_name"

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width of every crop."""
        return self._joined().size_px

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        if self._labels is None:
            maps = self._joined().new_labels
            self._labels = np.concatenate([new[part.labels] for part, new in zip(self.parts, maps, strict=True)])
        return self._labels

    def image(self, index: int) -> np.ndarray:
        """See `Source.image`."""
        part, number = self._place(index)
        return part.image(number)

    def encoded(self, index: int) -> bytes:
        """See `Source.encoded`."""
        part, number = self._place(index)
        return part.encoded(number)

    def name(self, index: int) -> str:
        """See `Source.name`."""
        part, number = self._place(index)
        return part.name(number)

    def will_read(self, indices: np.ndarray) -> None:
        """Tells the sets which of their samples, int64 (n,), are needed soon."""
        starts = self._joined().starts
        for part, start, stop in zip(self.parts, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            own = indices[(indices >= start) & (indices < stop)] - start
            if len(own):
                part.will_read(own)

    def benchmarks(self) -> list[Path]:
        """Returns those of all sets, by name; of files with equal name and content, only the first."""
        found: dict[str, list[Path]] = {}
        for path in (path for part in self.parts for path in part.benchmarks()):
            others = found.setdefault(path.name, [])
            if not others or file_hash(path) not in map(file_hash, others):
                others.append(path)
        return [path for name in sorted(found) for path in found[name]]

    def notes(self) -> list[str]:
        """Returns the notes of all sets."""
        return [note for part in self.parts for note in part.notes()]

    def fingerprint(self) -> str:
        """Returns SHA-256 over the sets' fingerprints, in their order, and over how their identities were joined."""
        digest = hashlib.sha256(self.merge.encode())
        for part, new_labels in zip(self.parts, self._joined().new_labels, strict=True):
            digest.update(part.fingerprint().encode())
            digest.update(new_labels.data)
        return digest.hexdigest()

    def _place(self, index: int) -> tuple[RecordSource | FileSource, int]:
        index = range(len(self))[index]
        starts = self._joined().starts
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return self.parts[number], index - int(starts[number])

    def _joined(self) -> "_Joint":
        if self._joint is None:
            sizes_px = {part.size_px: part for part in self.parts}
            if len(sizes_px) > 1:
                named = ", ".join(f"{part.root} of {height} x {width}" for (height, width), part in sizes_px.items())
                raise DataError(
                    f"data.root: crops of several sizes cannot be one set: {named} pixels. Folders and tables hold "
                    f"crops of {DEFAULT_SIZE_PX[0]} x {DEFAULT_SIZE_PX[1]} unless you set another size, such as "
                    f"{size_keys(next(size for size in sizes_px if size != DEFAULT_SIZE_PX))}"
                )
            number_of: dict[str, int] = {}
            new_labels = [
                np.array([number_of.setdefault(name, len(number_of)) for name in names], dtype=np.int64)
                for names in self._names()
            ]
            starts = np.cumsum([0, *map(len, self.parts)])
            self._joint = _Joint(starts, new_labels, list(number_of), self.parts[0].size_px)
        return self._joint

    def _names(self) -> Iterator[list[str]]:
        """Returns the names of each set; equal names mean one identity."""
        short = [part.root.name.removesuffix(".csv").removesuffix(".tsv") for part in self.parts]
        prefixes = short if len(set(short)) == len(short) else [str(number) for number in range(1, len(short) + 1)]
        for part, prefix in zip(self.parts, prefixes, strict=True):
            if self.merge == "none":
                yield [f"{prefix}/{name}" for name in part.identities]
            elif part.has_names:
                yield part.identities
            else:
                raise DataError(
                    f"data.merge=by_name: {part.root} has numbers for names. Record files need an identities.csv "
                    "beside them, as facerec pack writes it, with the same identities; or keep identities apart with "
                    "data.merge=none"
                )


@dataclass(frozen=True)
class _Joint:
    starts: np.ndarray  # int64 (sets + 1,): number of the first sample of each set, and of all samples
    new_labels: list[np.ndarray]  # per set, int64 (its identities,)
    identities: list[str]
    size_px: tuple[int, int]
