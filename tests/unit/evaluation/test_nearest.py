"""The nearest face of another identity, against a loop over all."""

import numpy as np
import pytest

from facerec.evaluation.nearest import nearest_others


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_nearest_of_another_identity(batch_size):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, 30)

    def embed(batch: np.ndarray) -> np.ndarray:
        assert len(batch) <= batch_size
        return batch.reshape(len(batch), -1).astype(np.float32) - 128

    found = nearest_others(lambda index: images[index], labels, embed=embed, batch_size=batch_size)
    emb = images.reshape(30, -1).astype(np.float64) - 128
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    for index in range(30):
        others = [other for other in range(30) if labels[other] != labels[index]]
        assert found[index] == max(others, key=lambda other: emb[index] @ emb[other])
