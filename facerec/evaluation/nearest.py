"""For every face, the one of another identity that looks most like it."""

from collections.abc import Callable

import numpy as np

from facerec.core.protocols import Embedder


def nearest_others(
    image: Callable[[int], np.ndarray], labels: np.ndarray, *, embed: Embedder, batch_size: int
) -> np.ndarray:
    """By the cosine of the embeddings.

    Args:
        image: 0 .. N - 1 -> uint8 (H, W, 3), RGB.
        labels: int64 (N,), of two identities or more.
        embed: see `Embedder`.
        batch_size: images that are embedded, and rows that are compared, at once.

    Returns:
        int64 (N,).
    """
    blocks = [range(start, min(start + batch_size, len(labels))) for start in range(0, len(labels), batch_size)]
    emb_ND = np.concatenate([embed(np.stack([image(index) for index in block])) for block in blocks])
    emb_ND /= np.linalg.norm(emb_ND, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    nearest_N = np.empty(len(labels), dtype=np.int64)
    for block in blocks:
        rows = slice(block.start, block.stop)
        cos_bN = emb_ND[rows] @ emb_ND.T
        cos_bN[labels[rows, None] == labels] = -np.inf
        nearest_N[rows] = cos_bN.argmax(axis=1)
    return nearest_N
