"""The interfaces between rooms that must not import each other."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from facerec.core.metric import Metric


class Source(Protocol):
    """A set of labelled face crops. Constructors open nothing; files are opened on first use."""

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): the identity of every sample, in 0 .. num_classes - 1."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """The decoded sample: uint8 (H, W, 3), RGB. Raises DataError, naming file and record."""
        ...

    def name(self, index: int) -> str:
        """Where the sample lies, for messages: file and record, or path."""
        ...

    def fingerprint(self) -> str:
        """A hexadecimal digest that changes when the data set changes; does not depend on where it lies."""
        ...


class Embedder(Protocol):
    """Anything that turns face crops into vectors: a network, an ONNX session, a baseline."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) RGB -> float32 (B, D), not normalised."""
        ...


class Evaluator(Protocol):
    """A benchmark that the trainer can call without knowing what it measures."""

    @property
    def name(self) -> str:
        """Short name, used in metric paths: eval/<name>/<metric>."""
        ...

    def evaluate(self, embed: Embedder) -> Iterator[Metric]:
        """Yields metrics, the same on all processes; `is_leading` marks the one that judges the model."""
        ...
