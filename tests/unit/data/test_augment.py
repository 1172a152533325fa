"""Augmentation of a sample is keyed by its place in the stream, and each transform draws for itself."""

import pickle

import numpy as np
import pytest

from facerec.core.errors import ConfigError
from facerec.data.augment import Augment

FLIP = {"HorizontalFlip": {"p": 0.5}}


def image() -> np.ndarray:
    return np.random.Generator(np.random.Philox(5)).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def drawn(augment: Augment, positions, *, seed: int = 1) -> list[bytes]:
    return [augment(image(), seed=seed, position=position).tobytes() for position in positions]


def test_no_transforms_leave_the_image_as_it_is():
    given = image()
    assert Augment()(given, seed=1, position=0) is given


def test_result_depends_on_seed_and_position_alone():
    transforms = [
        FLIP,
        {"Affine": {"rotate": [-20, 20], "p": 0.8}},
        {"ColorJitter": {"p": 0.8}},
        {"GaussNoise": {"p": 0.5}},
    ]
    augment = Augment(transforms=transforms)
    expected = drawn(augment, range(30))
    assert drawn(augment, reversed(range(30))) == expected[::-1]
    assert drawn(Augment(transforms=transforms), [17, 3]) == [expected[17], expected[3]]
    assert drawn(pickle.loads(pickle.dumps(augment)), range(30)) == expected
    assert len(set(expected)) > 25
    assert sum(a == b for a, b in zip(drawn(augment, range(30), seed=2), expected, strict=True)) < 5


def test_flips_are_pinned():
    augment = Augment(transforms=[FLIP])
    flipped = [augment(image(), seed=1, position=p).tobytes() != image().tobytes() for p in range(24)]
    assert "".join("x" if is_flipped else "." for is_flipped in flipped) == PINNED_FLIPS
    mirrored = augment(image(), seed=1, position=PINNED_FLIPS.index("x"))
    assert np.array_equal(mirrored, image()[:, ::-1])


def test_two_transforms_of_one_half_are_uncorrelated():
    augment = Augment(transforms=[FLIP, {"VerticalFlip": {"p": 0.5}}])
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, axis=2)
    first = np.array([augment(corners, seed=1, position=position)[0, 0, 0] for position in range(2000)])
    was_mirrored, was_turned_over = first % 2, first // 2
    assert was_mirrored.mean() == pytest.approx(0.5, abs=0.045)  # four standard errors
    assert was_turned_over.mean() == pytest.approx(0.5, abs=0.045)
    assert np.corrcoef(was_mirrored, was_turned_over)[0, 1] == pytest.approx(0, abs=0.09)


def test_neighbouring_positions_are_uncorrelated():
    augment = Augment(transforms=[FLIP])
    pair = np.arange(2, dtype=np.uint8).reshape(1, 2, 1).repeat(3, axis=2)
    flips = np.array([augment(pair, seed=1, position=position)[0, 0, 0] for position in range(2000)], dtype=float)
    assert np.corrcoef(flips[1:], flips[:-1])[0, 1] == pytest.approx(0, abs=0.09)


def test_source_image_is_not_changed():
    given = image()
    Augment(transforms=[{"ColorJitter": {"brightness": [2, 2], "p": 1.0}}])(given, seed=1, position=0)
    assert np.array_equal(given, image())


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        ({"HorizontalFlop": {}}, "no transform 'HorizontalFlop'"),
        ({"Compose": {"transforms": []}}, "no transform 'Compose'"),
        ({"HorizontalFlip": {"p": 0.5, "colour": 1}}, "HorizontalFlip does not take"),
        ({"HorizontalFlip": {"p": 1.5}}, "HorizontalFlip does not take"),
        ({"HorizontalFlip": {}, "ToGray": {}}, "expected one name"),
        ({}, "expected one name"),
    ],
)
def test_wrong_transforms_are_refused_before_training(transform, says):
    with pytest.raises(ConfigError, match=says):
        Augment(transforms=[transform]).check()


def test_transform_that_fails_on_an_image_is_named():
    with pytest.raises(ConfigError, match=r"augment\.transforms \(RandomCrop\) fail on an image of \(12, 10, 3\)"):
        Augment(transforms=[{"RandomCrop": {"height": 64, "width": 64}}])(image(), seed=1, position=0)


PINNED_FLIPS = "xxx......x..x..x.x...x.x"
