"""Where the images of every identity lie: centres that a few wrong images do not move, and each image's place.

Letters: N images, C identities, D embedding dimensions, b rows of a block.
"""

from dataclasses import dataclass

import numpy as np

KEPT_SHARE = 0.75
PASSES = 3
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Places:
    """Of every image.

    Attributes:
        own_N: float32, the cosine to the centre of its identity's other images; 0 where it has none.
        other_N: float32, the cosine to the nearest centre of another identity.
        nearest_N: int64, which identity that is.
    """

    own_N: np.ndarray
    other_N: np.ndarray
    nearest_N: np.ndarray


def normalised(emb: np.ndarray) -> np.ndarray:
    """float32, every row of length 1; rows of zeros stay."""
    emb = emb.astype(np.float32)
    return emb / np.linalg.norm(emb, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)


class IdentityCentres:
    """The mean direction of each identity's images, without the quarter that lies farthest from it.

    Args:
        emb_ND: (N, D), of length 1, float32 or float16; may be mapped from a file. Read in blocks.
        labels_N: int64, in 0 .. C - 1.
        num_identities: C; identities without images have a centre of zeros.
    """

    def __init__(self, emb_ND: np.ndarray, labels_N: np.ndarray, *, num_identities: int) -> None:
        self.emb_ND = emb_ND
        self.labels_N = labels_N
        self.num_identities = num_identities
        self._kept_N = np.ones(len(labels_N), dtype=bool)
        counts = np.bincount(labels_N, minlength=num_identities)
        by_identity = np.argsort(labels_N, kind="stable")
        for _ in range(PASSES - 1):
            self._sum()
            own_N = self.own_cosines()
            order = np.lexsort((-own_N, labels_N))
            rank_N = np.empty(len(labels_N), dtype=np.int64)
            rank_N[order] = np.arange(len(labels_N)) - np.repeat(np.cumsum(counts) - counts, counts)
            self._kept_N = rank_N < np.ceil(KEPT_SHARE * counts)[labels_N]
        self._sum()
        self.by_identity = np.split(by_identity, np.cumsum(counts)[:-1])

    def images(self, identity: int) -> np.ndarray:
        """int64 (n,): the numbers of an identity's images."""
        return self.by_identity[identity]

    def own_cosines(self) -> np.ndarray:
        """float32 (N,): to the centre of the other images of the identity; 0 where there are none."""
        own_N = np.zeros(len(self.labels_N), dtype=np.float32)
        for block in self._blocks():
            emb_bD = self._rows(block)
            others_bD = self._sums_CD[self.labels_N[block]] - np.where(self._kept_N[block, None], emb_bD, 0)
            own_N[block] = np.einsum("bd,bd->b", normalised(others_bD), emb_bD)
        return own_N

    def places(self) -> Places:
        """Of all images. Compares every image with every centre."""
        other_N = np.empty(len(self.labels_N), dtype=np.float32)
        nearest_N = np.empty(len(self.labels_N), dtype=np.int64)
        for block in self._blocks():
            cos_bC = self._rows(block) @ self.centres_CD.T
            cos_bC[np.arange(len(cos_bC)), self.labels_N[block]] = -np.inf
            nearest_N[block] = cos_bC.argmax(axis=1)
            other_N[block] = cos_bC.max(axis=1)
        return Places(own_N=self.own_cosines(), other_N=other_N, nearest_N=nearest_N)

    def gaps_if_mislabelled(self, places: Places, *, seed: int) -> np.ndarray:
        """float32 (N,): own minus other cosine, had each image the label of another identity, drawn at random."""
        drawn = np.random.default_rng(seed).integers(1, max(self.num_identities, 2), size=len(self.labels_N))
        wrong_N = (self.labels_N + drawn) % self.num_identities
        gaps_N = np.empty(len(self.labels_N), dtype=np.float32)
        for block in self._blocks():
            own_b = np.einsum("bd,bd->b", self._rows(block), self.centres_CD[wrong_N[block]])
            # Its true identity is then another one; so is its nearest other, unless that was drawn.
            is_nearest = wrong_N[block] == places.nearest_N[block]
            other_b = np.where(is_nearest, -np.inf, places.other_N[block])
            gaps_N[block] = own_b - np.maximum(other_b, places.own_N[block])
        return gaps_N

    def _sum(self) -> None:
        sums_CD = np.zeros((self.num_identities, self.emb_ND.shape[1]), dtype=np.float32)
        for block in self._blocks():
            kept = np.flatnonzero(self._kept_N[block]) + block.start
            np.add.at(sums_CD, self.labels_N[kept], self.emb_ND[kept].astype(np.float32))
        self._sums_CD = sums_CD
        self.centres_CD = normalised(sums_CD)

    def _rows(self, block: slice) -> np.ndarray:
        return self.emb_ND[block].astype(np.float32)

    def _blocks(self) -> list[slice]:
        return [
            slice(start, min(start + ROWS_AT_ONCE, len(self.labels_N)))
            for start in range(0, len(self.labels_N), ROWS_AT_ONCE)
        ]
