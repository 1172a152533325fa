"""Finds photos that occur twice in a set, mirrored or not, by their thumbnails.

Letters: N images, P pixels of a thumbnail, r and c rows and columns of a tile.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from facerec.embedding.nearest import TILE_COLUMNS, TILE_ROWS, tiles

THUMBNAIL_PX = 16


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Reduces uint8 (H, W, 3), RGB, to 16 x 16 grey pixels, of mean 0 and norm 1: float32 (256,).

    Zeros for an image without contrast.
    """
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1)
    small -= small.mean()
    length = np.linalg.norm(small)
    return small / length if length > 1 else np.zeros_like(small)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """An image that shows the same photo as one that fits better.

    Attributes:
        image, like: their numbers.
        correlation: correlation of the thumbnails, up to 1.
    """

    image: int
    like: int
    correlation: float


def find_copies(
    thumbnails_NP: np.ndarray,
    neighbourhoods: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    fit_N: np.ndarray,
    min_correlation: float,
) -> list[Copy]:
    """Returns all copies but the one that fits best, or the first of equally good ones; the most certain first.

    Equal thumbnails are found anywhere; similar ones only within a neighbourhood.

    Args:
        thumbnails_NP: (N, P), of mean 0 and norm 1, or 0 for images without contrast, of square grey images. May be
            mapped from a file.
        neighbourhoods: numbers of images that are compared with each other, and of others they are compared with.
        fit_N: the image with the largest value stays.
        min_correlation: above 0; two thumbnails with at least this correlation show one photo.
    """
    found = _Found(fit_N)
    for copies in _equal_rows(thumbnails_NP):
        found.note(copies, copies[found.rank_N[copies].argmax(keepdims=True)], np.ones((len(copies), 1)))
    for images, others in neighbourhoods:
        for rows, columns, correlation_rc in _correlations(thumbnails_NP, np.concatenate([images, others]), images):
            found.note(rows, columns, np.where(correlation_rc >= min_correlation, correlation_rc, 0))
    return found.copies()


class _Found:
    """The most certain copy of each image, among those that stay in its place."""

    def __init__(self, fit_N: np.ndarray) -> None:
        numbers = np.arange(len(fit_N))
        self.rank_N = np.empty(len(fit_N), dtype=np.int64)
        self.rank_N[np.lexsort((-numbers, fit_N))] = numbers
        self.correlation_N = np.zeros(len(fit_N), dtype=np.float32)
        self.like_N = np.full(len(fit_N), -1)

    def note(self, rows: np.ndarray, columns: np.ndarray, correlation_rc: np.ndarray) -> None:
        """Stores that images are copies of each other, if the correlation is above 0."""
        if not correlation_rc.any():
            return
        stays_by_rc = self.rank_N[columns] - self.rank_N[rows, None]  # 0: the same image
        self._note_goes(rows, columns, np.where(stays_by_rc > 0, correlation_rc, 0))
        self._note_goes(columns, rows, np.where(stays_by_rc < 0, correlation_rc, 0).T)

    def _note_goes(self, images: np.ndarray, likes: np.ndarray, correlation: np.ndarray) -> None:
        nearest = correlation.argmax(axis=1)
        highest = correlation[np.arange(len(images)), nearest]
        is_surer = highest > self.correlation_N[images]
        self.correlation_N[images[is_surer]] = highest[is_surer]
        self.like_N[images[is_surer]] = likes[nearest[is_surer]]

    def copies(self) -> list[Copy]:
        found = np.flatnonzero(self.like_N >= 0)
        surest_first = found[np.argsort(-self.correlation_N[found], kind="stable")]
        return [
            Copy(image=image, like=int(self.like_N[image]), correlation=float(self.correlation_N[image]))
            for image in surest_first.tolist()
        ]


def _correlations(
    thumbnails_NP: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Compares the images of two lists in tiles: yields their numbers, and the larger of the correlations with and
    without mirroring (r, c)."""
    side = int(np.sqrt(thumbnails_NP.shape[1]))
    for columns in tiles(len(second), TILE_COLUMNS):
        thumbs_cP = thumbnails_NP[second[columns]].astype(np.float32)
        mirrored_cP = thumbs_cP.reshape(-1, side, side)[:, :, ::-1].reshape(thumbs_cP.shape)
        for rows in tiles(len(first), TILE_ROWS):
            thumbs_rP = thumbnails_NP[first[rows]].astype(np.float32)
            correlation_rc = np.maximum(thumbs_rP @ thumbs_cP.T, thumbs_rP @ mirrored_cP.T)
            yield first[rows], second[columns], correlation_rc.clip(max=1)


def _equal_rows(rows_NP: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the numbers of equal rows, for each group of two or more; ignores rows of zeros."""
    digests = np.fromiter((hash(row.tobytes()) for row in rows_NP), dtype=np.int64, count=len(rows_NP))
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(digests[order]) != 0]))
    ends = np.append(starts[1:], len(order))
    is_several = ends - starts > 1
    for start, end in zip(starts[is_several].tolist(), ends[is_several].tolist(), strict=True):
        group = order[start:end]
        if rows_NP[group[0]].any():
            yield group[[np.array_equal(rows_NP[number], rows_NP[group[0]]) for number in group]]
