"""A set of faces that are none: blocks of colour with noise, in memory, the same on every machine."""

import numpy as np

from facerec.core.source import Source


class NoiseSource(Source):
    """Each identity has a coarse pattern, each image adds noise of its own.

    Args:
        num_classes, images_per_class: size of the set; sample i has the label i // images_per_class.
        size_px: height and width, a multiple of 4.
        damaged: numbers of samples that raise DataError.
    """

    def __init__(
        self, *, num_classes: int = 6, images_per_class: int = 8, size_px: int = 32, damaged: tuple[int, ...] = ()
    ) -> None:
        self._num_classes = num_classes
        self.images_per_class = images_per_class
        self.side_px = size_px
        self.damaged = damaged

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return self._num_classes

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.side_px, self.side_px

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return np.repeat(np.arange(self.num_classes, dtype=np.int64), self.images_per_class)

    def __len__(self) -> int:
        return self.num_classes * self.images_per_class

    def image(self, index: int) -> np.ndarray:
        """uint8 (size_px, size_px, 3), from raw words of Philox: no decoder, no rounding, no library version."""
        if index in self.damaged:
            from facerec.core.errors import DataError

            raise DataError(f"{self.name(index)}: does not decode")
        pattern = _words(1, index // self.images_per_class, 48).reshape(4, 4, 3) % 192
        scale = self.side_px // 4
        noise = _words(2, index, self.side_px**2 * 3).reshape(self.side_px, self.side_px, 3) % 64
        return (pattern.repeat(scale, axis=0).repeat(scale, axis=1) + noise).astype(np.uint8)

    def name(self, index: int) -> str:
        """Stands for file and record."""
        return f"noise.rec, record {index}"

    def fingerprint(self) -> str:
        """Not a digest, but as good."""
        return f"noise-{self.num_classes}-{self.images_per_class}-{self.side_px}"


def _words(stream: int, number: int, count: int) -> np.ndarray:
    return np.random.Philox(key=stream << 64 | number).random_raw(count)
