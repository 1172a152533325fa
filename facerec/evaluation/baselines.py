"""Embedders that do not know faces: their scores show what colours and blurred pixels reveal about a set of pairs."""

from collections.abc import Sequence

import numpy as np

from facerec.core.errors import DataError

_SIDE_PX = 16


class ColourHistogram:
    """The joint RGB histogram of an image, as an Embedder.

    The embedding is the square roots of the shares (so that the inner product is the Bhattacharyya coefficient), minus
    their mean.

    Args:
        bins: bins per channel; must divide 256. The embedding has bins ** 3 numbers.
    """

    def __init__(self, *, bins: int = 8) -> None:
        self.bins = bins

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Embeds uint8 (B, H, W, 3) as float32 (B, bins ** 3)."""
        num, num_cells = len(images), self.bins**3
        red, green, blue = np.moveaxis(images // (256 // self.bins), -1, 0).astype(np.int64)
        cells = ((red * self.bins + green) * self.bins + blue).reshape(num, -1)
        cells += num_cells * np.arange(num)[:, None]
        counts = np.bincount(cells.ravel(), minlength=num * num_cells).reshape(num, num_cells)
        roots = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
        return (roots - roots.mean(axis=1, keepdims=True)).astype(np.float32)


class PixelPCA:
    """Principal components of an image reduced to 16 x 16 colour pixels, as an Embedder (eigenfaces).

    Args:
        num_components: length of the embedding; shorter if the fitted images do not span as many dimensions.
        whiten: give every component the same variance. On real faces this baseline is harder to beat.
    """

    def __init__(self, *, num_components: int = 128, whiten: bool = True) -> None:
        self.num_components = num_components
        self.whiten = whiten
        self._mean: np.ndarray | None = None
        self._projection: np.ndarray | None = None

    def fit(self, images: np.ndarray | Sequence[np.ndarray]) -> "PixelPCA":
        """Finds the components of N images, uint8 (H, W, 3) of any size, and returns self.

        Raises:
            DataError: there are fewer than two images.
        """
        if len(images) < 2:
            raise DataError(f"PixelPCA is fitted on {len(images)} images; expected two or more")
        pixels = _shrunk(images)
        self._mean = pixels.mean(axis=0)
        _, strengths, axes = np.linalg.svd(pixels - self._mean, full_matrices=False)
        kept = min(self.num_components, int((strengths > 1e-6 * strengths[0]).sum()))
        deviations = strengths[:kept] / np.sqrt(len(images))
        self._projection = axes[:kept].T / (deviations if self.whiten else 1.0)
        return self

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Embeds uint8 (B, H, W, 3) as float32 (B, num_components). Call `fit` first."""
        if self._projection is None:
            raise DataError("PixelPCA has no components yet; call fit(images) first")
        return ((_shrunk(images) - self._mean) @ self._projection).astype(np.float32)


def _shrunk(images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Reduces uint8 (B, H, W, 3), or B images, to float64 (B, 768) by means over areas."""
    import cv2

    small = [cv2.resize(image, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).reshape(len(images), -1).astype(np.float64)
