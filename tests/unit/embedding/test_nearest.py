"""The nearest face of another identity, against a loop over all."""

import tracemalloc

import numpy as np
import pytest

from facerec.embedding import nearest
from facerec.embedding.nearest import highest_cosines, nearest_others


def test_nearest_of_another_identity():
    rng = np.random.default_rng(3)
    emb = rng.standard_normal((30, 12), dtype=np.float32)
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    labels = rng.integers(0, 4, 30)
    cosines, found = nearest_others(emb, labels, what="comparing")
    for index in range(30):
        others = [other for other in range(30) if labels[other] != labels[index]]
        assert found[index] == max(others, key=lambda other: emb[index].astype(np.float64) @ emb[other])
        assert cosines[index] == pytest.approx(emb[index] @ emb[found[index]], abs=1e-6)


@pytest.mark.parametrize("tile", [(1024, 16384), (1, 1), (7, 4), (4, 7), (100, 3), (3, 100)])
@pytest.mark.parametrize("has_ids", [True, False])
def test_highest_cosines_are_those_of_the_whole_matrix_whatever_the_tiles(tile, has_ids, monkeypatch):
    rng = np.random.default_rng(5)
    rows_ND, columns_MD = (rng.integers(-9, 9, (num, 6)).astype(np.float32) for num in (40, 90))  # exact, with ties
    row_ids, column_ids = rng.integers(0, 5, 40), rng.integers(0, 5, 90)
    row_ids[11] = 9
    monkeypatch.setattr(nearest, "TILE_ROWS", tile[0])
    monkeypatch.setattr(nearest, "TILE_COLUMNS", tile[1])
    ids = {"row_ids": row_ids, "column_ids": column_ids} if has_ids else {}
    best, which = highest_cosines(rows_ND.__getitem__, columns_MD, num_rows=40, **ids)
    cosines = rows_ND @ columns_MD.T
    if has_ids:
        cosines[row_ids[:, None] == column_ids] = -np.inf
    assert best.tolist() == cosines.max(axis=1).tolist() and which.tolist() == cosines.argmax(axis=1).tolist()


def test_a_row_that_is_compared_with_none_has_no_nearest():
    rows_ND = np.ones((3, 2), dtype=np.float32)
    ids = {"row_ids": np.array([4, 5, 4]), "column_ids": np.array([4, 4, 4])}
    best, which = highest_cosines(rows_ND.__getitem__, rows_ND, num_rows=3, **ids)
    assert best.tolist() == [-np.inf, 2.0, -np.inf] and which.tolist() == [-1, 0, -1]


def test_the_matrix_is_never_held_as_a_whole(monkeypatch):
    monkeypatch.setattr(nearest, "TILE_ROWS", 100)
    monkeypatch.setattr(nearest, "TILE_COLUMNS", 500)
    emb_ND = np.random.default_rng(6).standard_normal((4000, 4), dtype=np.float32)
    tracemalloc.start()
    try:
        highest_cosines(emb_ND.__getitem__, emb_ND, num_rows=4000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6  # the whole takes 64e6


def test_nearest_images_are_those_of_a_slow_search(monkeypatch):
    monkeypatch.setattr(nearest, "TILE_ROWS", 7)
    monkeypatch.setattr(nearest, "TILE_COLUMNS", 11)
    rng = np.random.default_rng(0)
    emb = rng.normal(size=(60, 8)).astype(np.float32)
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    images, among = rng.permutation(60)[:20], np.sort(rng.permutation(60)[:45])
    found = nearest.nearest_images(emb, images, among, number=4)
    for image, nearest_of in zip(images, found, strict=True):
        others = among[among != image]
        assert nearest_of.tolist() == others[np.argsort(-(emb[others] @ emb[image]))][:4].tolist()
    few = nearest.nearest_images(emb, images[:2], np.array([images[0], 3]), number=4)
    assert few.tolist() == [
        [3, -1, -1, -1],
        sorted([images[0], 3], key=lambda one: -emb[one] @ emb[images[1]]) + [-1, -1],
    ]
