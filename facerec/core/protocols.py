"""The interfaces between rooms that must not import each other."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from facerec.core.metric import Metric


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
