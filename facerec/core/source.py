"""What a set of labelled face crops is to everything that uses one."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from facerec.core.crop_size import DEFAULT_SIZE_PX


class Source(ABC):
    """A set of labelled face crops. Constructors open nothing; files are opened on first use.

    A source of one's own defines what is abstract here; the rest has answers that fit any set.
    """

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of identities."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """int64 (N,): the identity of every sample, in 0 .. num_classes - 1."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples, N."""

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Returns the decoded sample: uint8 (H, W, 3), RGB. Raises DataError, naming file and record."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns where the sample lies, for messages: file and record, or path."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a hexadecimal digest that changes when the set changes; does not depend on where it lies."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of every crop."""
        return DEFAULT_SIZE_PX

    @property
    def identities(self) -> list[str]:
        """The names of the identities, in the order of the labels; their numbers where there are no names."""
        return [str(label) for label in range(self.num_classes)]

    @property
    def has_names(self) -> bool:
        """True where `identities` are names of people, and not numbers."""
        return False

    def encoded(self, index: int) -> bytes:
        """Returns the sample as an image file, as it lies on disk; PNG where it lies on none. Raises as `image`."""
        import cv2

        return cv2.imencode(".png", self.image(index)[:, :, ::-1])[1].tobytes()

    def will_read(self, indices: np.ndarray) -> None:
        """Learns which samples, int64 (n,), are asked for soon; a source on a slow disk reads them ahead."""
        return None

    def benchmarks(self) -> list[Path]:
        """Returns the verification files that lie beside the set."""
        return []

    def notes(self) -> list[str]:
        """Returns what a user should know about the set."""
        return []
