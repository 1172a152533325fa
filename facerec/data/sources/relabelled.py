"""A set under other labels: the result of cleaning, before it is packed."""

from collections.abc import Sequence

import numpy as np

from facerec.core.source import Source


class RelabelledSource(Source):
    """The images of another set, with separate labels and identities.

    Args:
        source: the set.
        labels: int64 (N,), one for each of its images.
        identities: the names, in the order of the labels.
    """

    def __init__(self, *, source: Source, labels: np.ndarray, identities: Sequence[str]) -> None:
        self.source = source
        self._labels = labels
        self._identities = list(identities)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def num_classes(self) -> int:
        """Returns the number of names."""
        return len(self._identities)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._labels

    @property
    def identities(self) -> list[str]:
        """Returns the names, in the order of the labels."""
        return self._identities

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width of every crop."""
        return self.source.size_px

    def image(self, index: int) -> np.ndarray:
        """See `Source.image`."""
        return self.source.image(index)

    def encoded(self, index: int) -> bytes:
        """See `Source.encoded`."""
        return self.source.encoded(index)

    def name(self, index: int) -> str:
        """See `Source.name`."""
        return self.source.name(index)

    def fingerprint(self) -> str:
        """Returns that of the images' set."""
        return self.source.fingerprint()
