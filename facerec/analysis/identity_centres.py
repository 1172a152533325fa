"""Centres of identities that a few wrong images do not move, and the cosines of each image to the centres.

Letters: N images, C identities, D embedding dimensions, b rows of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from facerec.core.progress_bar import progress_bar
from facerec.embedding.nearest import highest_cosines, tiles

KEPT_SHARE = 0.75
PASSES = 3
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Places:
    """The position of every image.

    Attributes:
        own_N: float32, the cosine to the centre of its identity's other images; 0 where it has none.
        other_N: float32, the cosine to the nearest centre of another identity; -inf where there is no other.
        nearest_N: int64, the number of that identity; -1 for an image that could not be read.
    """

    own_N: np.ndarray
    other_N: np.ndarray
    nearest_N: np.ndarray


def normalised(emb: np.ndarray) -> np.ndarray:
    """Returns float32 rows of norm 1; rows of zeros stay zeros."""
    emb = emb.astype(np.float32)
    return emb / np.linalg.norm(emb, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)


class IdentityCentres:
    """The mean direction of each identity's images, without the quarter that is farthest from it.

    Only this class decides which rows are images: rows of zeros are images that could not be read. They belong to no
    identity and count nowhere; an identity with only such rows does not count as one.

    Args:
        emb_ND: (N, D), of norm 1 or 0, float32 or float16; may be mapped from a file. Read in blocks.
        labels_N: int64, in 0 .. C - 1.
        num_identities: C; identities without images have a centre of zeros.

    Attributes:
        readable_n: int64, the numbers of the images that could be read, ascending.
        counts_C: int64, the number of readable images of each identity.
        centres_CD: float32, of norm 1 or 0.
    """

    def __init__(self, emb_ND: np.ndarray, labels_N: np.ndarray, *, num_identities: int) -> None:
        self.emb_ND = emb_ND
        self.labels_N = labels_N
        self.num_identities = num_identities
        self.readable_n = _rows_not_zero(emb_ND)
        labels_n = labels_N[self.readable_n]
        self.counts_C = np.bincount(labels_n, minlength=num_identities)
        starts_C = np.cumsum(self.counts_C) - self.counts_C
        self._kept_N = np.zeros(len(labels_N), dtype=bool)
        self._kept_N[self.readable_n] = True
        for _ in progress_bar(range(PASSES - 1), what="computing the centres of identities", unit="passes"):
            self._sum()
            nearest_first = np.lexsort((-self.own_cosines()[self.readable_n], labels_n))
            rank_n = np.arange(len(labels_n)) - np.repeat(starts_C, self.counts_C)
            is_kept_n = rank_n < np.ceil(KEPT_SHARE * self.counts_C)[labels_n[nearest_first]]
            self._kept_N[self.readable_n[nearest_first]] = is_kept_n
        self._sum()
        self._by_identity = self.readable_n[np.argsort(labels_n, kind="stable")]
        self._starts_C = starts_C

    def images(self, identity: int) -> np.ndarray:
        """Returns the numbers of an identity's readable images, ascending: int64."""
        start = self._starts_C[identity]
        return self._by_identity[start : start + self.counts_C[identity]]

    def own_cosines(self) -> np.ndarray:
        """Returns the cosine to the centre of the identity's other images: float32 (N,); 0 if there are none."""
        own_N = np.zeros(len(self.labels_N), dtype=np.float32)
        for images in self._blocks():
            emb_bD = self._emb(images)
            others_bD = self._sums_CD[self.labels_N[images]] - np.where(self._kept_N[images, None], emb_bD, 0)
            own_N[images] = np.einsum("bd,bd->b", normalised(others_bD), emb_bD)
        return own_N

    def places(self) -> Places:
        """Returns the positions of all images. Compares every image with every centre."""
        present = np.flatnonzero(self.counts_C)
        highest_n, which_n = highest_cosines(
            lambda block: self._emb(self.readable_n[block]),
            self.centres_CD if len(present) == self.num_identities else self.centres_CD[present],
            num_rows=len(self.readable_n),
            row_ids=self.labels_N[self.readable_n],
            column_ids=present,
            what="comparing with identities",
        )
        other_N = np.zeros(len(self.labels_N), dtype=np.float32)
        other_N[self.readable_n] = highest_n
        nearest_N = np.full(len(self.labels_N), -1)
        nearest_N[self.readable_n] = np.append(present, -1)[which_n]
        return Places(own_N=self.own_cosines(), other_N=other_N, nearest_N=nearest_N)

    def gaps_if_mislabelled(self, places: Places, *, seed: int) -> np.ndarray:
        """Returns own minus other cosine, as if each image had a random other identity's label: float32 (N,)."""
        present = np.flatnonzero(self.counts_C)
        place_C = np.cumsum(self.counts_C > 0) - 1
        drawn_n = np.random.default_rng(seed).integers(1, max(len(present), 2), size=len(self.readable_n))
        wrong_N = np.zeros(len(self.labels_N), dtype=np.int64)
        wrong_N[self.readable_n] = present[(place_C[self.labels_N[self.readable_n]] + drawn_n) % max(len(present), 1)]
        gaps_N = np.zeros(len(self.labels_N), dtype=np.float32)
        for images in self._blocks():
            own_b = np.einsum("bd,bd->b", self._emb(images), self.centres_CD[wrong_N[images]])
            # The true identity is then another one; so is the nearest other identity, unless it was drawn.
            is_nearest = wrong_N[images] == places.nearest_N[images]
            other_b = np.where(is_nearest, -np.inf, places.other_N[images])
            gaps_N[images] = own_b - np.maximum(other_b, places.own_N[images])
        return gaps_N

    def _sum(self) -> None:
        sums_CD = np.zeros((self.num_identities, self.emb_ND.shape[1]), dtype=np.float32)
        for images in self._blocks():
            kept = images[self._kept_N[images]]
            np.add.at(sums_CD, self.labels_N[kept], self._emb(kept))
        self._sums_CD = sums_CD
        self.centres_CD = normalised(sums_CD)

    def _emb(self, images: np.ndarray) -> np.ndarray:
        return self.emb_ND[images].astype(np.float32)

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yields numbers of images, block by block."""
        return (self.readable_n[block] for block in tiles(len(self.readable_n), ROWS_AT_ONCE))


def _rows_not_zero(emb_ND: np.ndarray) -> np.ndarray:
    """int64 (n,), ascending."""
    found = [block.start + np.flatnonzero(emb_ND[block].any(axis=1)) for block in tiles(len(emb_ND), ROWS_AT_ONCE)]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])
