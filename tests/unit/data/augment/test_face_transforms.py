"""Transforms of facerec's own: what they cover, keep and lose, counted in pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.align.similarity import TEMPLATE_112
from facerec.core.errors import ConfigError
from facerec.data.augment.face_transforms import FACE_TRANSFORMS, CropOnBlack, FaceMask, Hand, LowResolution, Sunglasses

GREY = np.full((112, 112, 3), 100, dtype=np.uint8)
NUM_DRAWS = 300


def rng(number: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(number))


def noise(height: int, width: int) -> np.ndarray:
    return rng(9).integers(1, 256, (height, width, 3), dtype=np.uint8)


def changed(transform, image: np.ndarray = GREY, *, seed: int = 0) -> np.ndarray:
    """bool (H, W): the pixels that differ afterwards."""
    return (transform(image, rng(seed)) != image).any(axis=2)


@given(
    name=st.sampled_from(sorted(FACE_TRANSFORMS)),
    height=st.integers(2, 130),
    width=st.integers(2, 130),
    seed=st.integers(0, 2**32),
)
def test_shape_and_type_stay_the_source_is_left_alone_and_the_generator_decides(name, height, width, seed):
    source = noise(height, width)
    before = source.copy()
    results = [FACE_TRANSFORMS[name]()(source, rng(seed)) for _ in range(2)]
    assert np.array_equal(results[0], results[1])
    assert results[0].shape == source.shape and results[0].dtype == np.uint8
    assert np.array_equal(source, before)


def test_crop_keeps_one_rectangle_in_place_on_black():
    source = noise(112, 112)
    areas, ratios = [], []
    for seed in range(NUM_DRAWS):
        result = CropOnBlack(scale=(0.2, 0.9), ratio=(0.75, 4 / 3))(source, rng(seed))
        rows, columns = np.flatnonzero(result.any(axis=(1, 2))), np.flatnonzero(result.any(axis=(0, 2)))
        kept = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        assert np.array_equal(result[kept], source[kept]) and np.count_nonzero(result) == result[kept].size
        areas.append(len(rows) * len(columns) / 112**2)
        ratios.append(len(columns) / len(rows))
    assert 0.19 < min(areas) < 0.23 and 0.8 < max(areas) < 0.92
    assert np.mean(areas) == pytest.approx(0.55, abs=0.05)
    assert 0.74 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.35


def test_crop_that_never_fits_leaves_the_whole_image():
    source = noise(112, 112)
    assert np.array_equal(CropOnBlack(scale=(1.0, 1.0), ratio=(2.0, 3.0))(source, rng()), source)


def test_low_resolution_loses_detail_and_keeps_the_rest():
    ramp = np.repeat(np.linspace(20, 230, 112).astype(np.uint8)[None, :, None], 112, axis=0).repeat(3, axis=2)
    checks = (np.indices((112, 112)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    low = LowResolution(scale=(0.2, 0.4))
    for seed in range(60):
        assert np.abs(low(ramp, rng(seed)).astype(int) - ramp)[4:-4, 6:-6].max() <= 12
    contrasts = [low(checks, rng(seed)).std() for seed in range(60)]
    assert np.median(contrasts) < 90 < checks.std()


def test_low_resolution_uses_every_interpolation_both_ways():
    """The step from black to white tells them apart; five by five are 25 pictures."""
    step = np.zeros((20, 20, 3), dtype=np.uint8)
    step[:, 9:] = 255
    step[7:9, 3] = 200
    pictures = {LowResolution(scale=(0.5, 0.5))(step, rng(seed)).tobytes() for seed in range(400)}
    ways = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    small = [cv2.resize(step, (10, 10), interpolation=way) for way in ways]
    assert pictures == {cv2.resize(one, (20, 20), interpolation=way).tobytes() for one in small for way in ways}


def points(size: tuple[int, int]) -> np.ndarray:
    """(5, 2) int: the template's landmarks in a crop of (height, width)."""
    height, width = size
    return np.rint(TEMPLATE_112 * height / 112 + ((width - height) / 2, 0)).astype(int)


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (224, 224)])
def test_sunglasses_cover_both_eyes_and_leave_mouth_and_nose(size):
    grey = np.full((*size, 3), 100, dtype=np.uint8)
    for seed in range(40):
        covered = changed(Sunglasses(opacity=(1.0, 1.0)), grey, seed=seed)
        assert [bool(covered[y, x]) for x, y in points(size)] == [True, True, False, False, False]
        assert 0.03 < covered.mean() < 0.18


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (224, 224)])
def test_mask_covers_nose_and_mouth_and_leaves_the_eyes(size):
    grey = np.full((*size, 3), 100, dtype=np.uint8)
    for seed in range(40):
        covered = changed(FaceMask(), grey, seed=seed)
        assert [bool(covered[y, x]) for x, y in points(size)] == [False, False, True, True, True]
        assert 0.1 < covered.mean() < 0.4


def test_hand_has_the_colour_of_the_face_and_lies_anywhere():
    face = noise(112, 112) // 8
    face[40:95, 25:85] = (200, 140, 110)
    places = []
    for seed in range(NUM_DRAWS):
        result = Hand()(face, rng(seed))
        covered = (result != face).any(axis=2)
        if not covered.any():
            continue  # it lay on its own colour
        places.append(np.argwhere(covered).mean(axis=0))
        colour = np.median(result[covered], axis=0)
        assert colour[0] > colour[1] > colour[2] and colour[0] / colour[2] == pytest.approx(200 / 110, rel=0.35)
        assert covered.mean() < 0.3
    spread = np.array(places)
    assert len(places) > NUM_DRAWS * 0.9 and (spread.min(axis=0) < 25).all() and (spread.max(axis=0) > 87).all()


def test_opacity_lets_the_eyes_through():
    eyes = points((112, 112))[:2]
    half = Sunglasses(opacity=(0.5, 0.5))(np.full((112, 112, 3), 255, dtype=np.uint8), rng())
    assert all(127 <= half[y, x].min() <= half[y, x].max() <= 166 for x, y in eyes)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: CropOnBlack(scale=(0.0, 1.0)), r"CropOnBlack.scale=0.0; expected a number in 0.01 .. 1"),
        (lambda: CropOnBlack(ratio=(0.5,)), r"CropOnBlack.ratio=\(0.5,\); expected two numbers"),
        (lambda: LowResolution(scale=(0.5, 2)), "LowResolution.scale=2"),
        (lambda: LowResolution(scale=(True, 1)), "LowResolution.scale=True"),
        (lambda: Sunglasses(opacity="all"), "Sunglasses.opacity='all'"),
        (lambda: FaceMask(height=(0.9, 0.1)), "the smaller number first"),
        (lambda: Hand(scale=(0.1, float("nan"))), "Hand.scale=nan"),
    ],
)
def test_numbers_out_of_range_are_refused(build, says):
    with pytest.raises(ConfigError, match=says):
        build()
