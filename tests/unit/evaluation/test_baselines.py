"""The baselines measure what they say: shares of colours, and coordinates along principal axes."""

import numpy as np
import pytest

from facerec.core.errors import DataError
from facerec.evaluation.baselines import ColourHistogram, PixelPCA


def _images(num: int, seed: int = 0) -> np.ndarray:
    """Random smooth images: 16 x 16 random pixels, each 7 x 7 large."""
    small = np.random.default_rng(seed).integers(0, 256, (num, 16, 16, 3), dtype=np.uint8)
    return small.repeat(7, axis=1).repeat(7, axis=2)


def test_histogram_holds_the_roots_of_the_shares_less_their_mean() -> None:
    image = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    image[0, 0] = (255, 0, 130)  # one row of four: bins 1, 0, 1 of two
    found = ColourHistogram(bins=2)(image)
    roots = np.zeros(8)
    roots[[0, 5]] = np.sqrt([0.75, 0.25])
    assert (found.dtype, found.shape) == (np.float32, (1, 8))
    np.testing.assert_allclose(found[0], roots - roots.mean(), atol=1e-7)


def test_histogram_sees_colours_and_not_places() -> None:
    images = _images(5)
    shuffled = np.random.default_rng(1).permuted(images.reshape(5, -1, 3), axis=1).reshape(images.shape)
    assert ColourHistogram()(images).shape == (5, 512)
    embed = ColourHistogram()
    np.testing.assert_allclose(embed(images), np.stack([embed(images[i : i + 1])[0] for i in range(5)]))
    rows = images[:, np.random.default_rng(2).permutation(112)]
    np.testing.assert_array_equal(embed(rows), embed(images))
    assert np.abs(embed(shuffled) - embed(images)).max() > 0.01  # channels mixed: other colours


def test_components_are_uncorrelated_and_whitened_on_the_fitted_images() -> None:
    images = _images(200)
    found = PixelPCA(num_components=20).fit(images)(images)
    assert (found.dtype, found.shape) == (np.float32, (200, 20))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.T @ found / 200, np.eye(20), atol=1e-4)


def test_all_components_keep_the_distances_between_shrunk_images() -> None:
    images, others = _images(800), _images(4, seed=9)
    found = PixelPCA(num_components=768, whiten=False).fit(images)(others)
    small = others[:, ::7, ::7].reshape(4, -1).astype(np.float64)
    for i in range(4):
        np.testing.assert_allclose(
            np.linalg.norm(found - found[i], axis=1), np.linalg.norm(small - small[i], axis=1), rtol=1e-4
        )


def test_components_are_no_more_than_the_images_span() -> None:
    assert PixelPCA(num_components=128).fit(_images(10))(_images(3)).shape == (3, 9)


def test_unfitted_pca_is_refused() -> None:
    with pytest.raises(DataError, match="fit"):
        PixelPCA()(_images(2))
    with pytest.raises(DataError, match="1 images"):
        PixelPCA().fit(_images(1))
