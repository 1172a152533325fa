"""The interface of a set of labelled face crops."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.crop_size import DEFAULT_SIZE_PX
from facerec.core.part_check import check_part, is_of_facerec, part_error


class Source(ABC):
    """A set of labelled face crops. Constructors open nothing; files are opened on first use.

    A custom source defines the abstract methods; the defaults of the others fit any set.
    """

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Returns the number of identities."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """Returns the identity of every sample, in 0 .. num_classes - 1: int64 (N,)."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples, N."""

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Returns the decoded sample: uint8 (H, W, 3), RGB. Raises DataError, which names file and record."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns the place of the sample, for messages: file and record, or path."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a hexadecimal digest that changes when the set changes, but not when the set is moved."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width of every crop."""
        return DEFAULT_SIZE_PX

    @property
    def identities(self) -> list[str]:
        """Returns the names of the identities, in the order of the labels; their numbers if they have no names."""
        return [str(label) for label in range(self.num_classes)]

    @property
    def has_names(self) -> bool:
        """True if `identities` are names of people, and not numbers."""
        return False

    def encoded(self, index: int) -> bytes:
        """Returns the sample as the bytes of its image file; PNG if it has no file. Raises as `image`."""
        import cv2

        return cv2.imencode(".png", self.image(index)[:, :, ::-1])[1].tobytes()

    def will_read(self, indices: np.ndarray) -> None:
        """Announces the samples, int64 (n,), that are needed soon; a source on a slow disk reads them ahead."""
        return None

    def benchmarks(self) -> list[Path]:
        """Returns the verification files in the folder of the set."""
        return []

    def notes(self) -> list[str]:
        """Returns notes about the set for the user."""
        return []


def check_source(source: Any) -> None:
    """Refuses a source of the user's own class that does not derive from `Source`, or whose values have other shapes.

    Reads the labels and the first image.

    Raises:
        ConfigError: names the class and everything that is wrong.
        DataError: the set cannot be read.
    """
    check_part(source, Source, key="data.source", kind="source", base=Source)
    if is_of_facerec(source):
        return
    faults = []
    labels, num_samples = np.asarray(source.labels), len(source)
    if labels.shape != (num_samples,) or not np.issubdtype(labels.dtype, np.integer) or not num_samples:
        faults.append(
            f"labels is {labels.dtype} {labels.shape}; expected int64 ({num_samples},), with 1 sample or more"
        )
    elif labels.min() < 0 or labels.max() >= source.num_classes:
        found = f"{labels.min()} .. {labels.max()}"
        faults.append(f"labels holds {found}; num_classes={source.num_classes} promises 0 .. {source.num_classes - 1}")
    if num_samples:
        image = source.image(0)
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        if found != f"uint8 {(*source.size_px, 3)}":
            faults.append(f"image(0) is {found}; expected uint8 {(*source.size_px, 3)}, of the size that size_px gives")
    if faults:
        raise part_error(source, faults, key="data.source", kind="source")
