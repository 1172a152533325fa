"""Copies of photos, against a loop over all pairs."""

import numpy as np
import pytest

from facerec.analysis import duplicates
from facerec.analysis.duplicates import find_copies

NUM_IMAGES, NUM_GROUPS, MIN_CORRELATION = 40, 4, 0.9


def mirrored(thumbnail: np.ndarray) -> np.ndarray:
    return thumbnail.reshape(4, 4)[:, ::-1].reshape(-1)


def thumbnails_of(rng: np.random.Generator) -> np.ndarray:
    """Of a few photos that occur often: the same to the bit, mirrored, with some noise; and some without contrast."""
    photos = rng.normal(size=(12, 16))
    rows = photos[rng.integers(0, 12, NUM_IMAGES)]
    is_mirrored, has_noise = rng.random((2, NUM_IMAGES)) < 0.4
    rows[is_mirrored] = [mirrored(row) for row in rows[is_mirrored]]
    rows[has_noise] += rng.normal(scale=0.3, size=(has_noise.sum(), 16))
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[rng.random(NUM_IMAGES) < 0.05] = 0
    return rows.astype(np.float16)


@pytest.mark.parametrize("tile", [(1024, 16384), (7, 3), (1, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_copies_are_those_of_a_loop_over_all_pairs(tile, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    thumbnails = thumbnails_of(rng)
    fit = rng.integers(0, 9, NUM_IMAGES).astype(np.float32)  # some fit alike
    own, other = rng.integers(0, NUM_GROUPS, (2, NUM_IMAGES))
    neighbourhoods = [(np.flatnonzero(own == group), np.flatnonzero(other == group)) for group in range(NUM_GROUPS)]
    monkeypatch.setattr(duplicates, "TILE_ROWS", tile[0])
    monkeypatch.setattr(duplicates, "TILE_COLUMNS", tile[1])
    found = find_copies(thumbnails, neighbourhoods, fit_N=fit, min_correlation=MIN_CORRELATION)

    exact = thumbnails.astype(np.float64)
    expected = {}
    for first in range(NUM_IMAGES):
        for second in range(NUM_IMAGES):
            are_equal = exact[first].any() and np.array_equal(exact[first], exact[second])
            are_near = own[first] in (own[second], other[second]) or own[second] == other[first]
            correlation = max(exact[first] @ exact[second], exact[first] @ mirrored(exact[second]))
            stays = (fit[second], -second) > (fit[first], -first)
            if stays and (are_equal or (are_near and correlation >= MIN_CORRELATION)):
                expected.setdefault(first, {})[second] = min(1.0 if are_equal else correlation, 1.0)
    assert {copy.image for copy in found} == set(expected)
    for copy in found:
        surest = max(expected[copy.image].values())
        assert copy.correlation == pytest.approx(surest, abs=1e-5)
        assert expected[copy.image][copy.like] == pytest.approx(surest, abs=1e-5)
    assert [copy.correlation for copy in found] == sorted((copy.correlation for copy in found), reverse=True)


def test_a_thousand_equal_photos_leave_the_one_that_fits_best():
    thumbnails = np.tile(thumbnails_of(np.random.default_rng(2))[1], (1000, 1))
    fit = np.random.default_rng(3).permutation(1000).astype(np.float32)
    best = int(fit.argmax())
    found = find_copies(thumbnails, [(np.arange(1000), np.arange(0))], fit_N=fit, min_correlation=0.97)
    assert {copy.image for copy in found} == set(range(1000)) - {best}
    assert {(copy.like, copy.correlation) for copy in found} == {(best, 1.0)}
    assert [copy.image for copy in found] == sorted(copy.image for copy in found)  # the order does not depend on luck
