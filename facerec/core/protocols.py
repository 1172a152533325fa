"""The interfaces between rooms that must not import each other."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from facerec.core.metric import Metric


class Images(Protocol):
    """Images to embed: a data set, the images of pairs, photos."""

    def __len__(self) -> int:
        """Returns the number of images, N."""
        ...

    def image(self, index: int) -> np.ndarray:
        """Returns uint8 (H, W, 3), RGB. Raises DataError, which names the image. Several threads call it."""
        ...

    def name(self, index: int) -> str:
        """Returns the place of the image, for messages."""
        ...


class Embedder(Protocol):
    """Anything that embeds face crops as vectors: a network, an ONNX session, a baseline."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Embeds uint8 (B, H, W, 3) RGB as float32 (B, D), not normalised."""
        ...


@runtime_checkable
class StreamingEmbedder(Protocol):
    """An `Embedder` that can compute one batch while it copies the next."""

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the embeddings of each batch."""
        ...


class Evaluator(Protocol):
    """A benchmark that the trainer can call without knowing what it measures.

    Two more parts are optional. `check()` runs before the first step, and raises what can be told then. `metric_names`
    holds the names of the metrics of which one direction is better, so that `checkpoint.best_metric` is checked then.
    """

    @property
    def name(self) -> str:
        """Returns the short name that metric paths use: eval/<name>/<metric>."""
        ...

    def evaluate(self, embed: Embedder) -> Iterator[Metric]:
        """Yields metrics, the same on all processes; `is_leading` marks the metric that judges the model."""
        ...
