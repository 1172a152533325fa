"""Some samples of another source."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facerec.core.source import Source


class Subset(Source):
    """Some samples of a source, with all its identities.

    Args:
        source: the whole set.
        indices: its samples, in their order: int64 (n,), or a range.
    """

    def __init__(self, *, source: Source, indices: Sequence[int] | np.ndarray) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def num_classes(self) -> int:
        """Returns the number of identities of the whole set."""
        return self.source.num_classes

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,)."""
        return self.source.labels[np.asarray(self.indices)]

    @property
    def size_px(self) -> tuple[int, int]:
        """See `Source`."""
        return self.source.size_px

    @property
    def identities(self) -> list[str]:
        """See `Source`; those of the whole set."""
        return self.source.identities

    @property
    def has_names(self) -> bool:
        """See `Source`."""
        return self.source.has_names

    def image(self, index: int) -> np.ndarray:
        """See `Source`."""
        return self.source.image(int(self.indices[index]))

    def encoded(self, index: int) -> bytes:
        """See `Source`."""
        return self.source.encoded(int(self.indices[index]))

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(int(self.indices[index]))

    def will_read(self, indices: np.ndarray) -> None:
        """Tells the whole set which of its samples are needed soon."""
        self.source.will_read(np.asarray(self.indices)[indices])

    def benchmarks(self) -> list[Path]:
        """See `Source`."""
        return self.source.benchmarks()

    def notes(self) -> list[str]:
        """See `Source`."""
        return self.source.notes()

    def fingerprint(self) -> str:
        """Returns that of the whole set; the caller must add which samples are used."""
        return self.source.fingerprint()
