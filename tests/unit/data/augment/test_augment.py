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
        ({"HorizontalFlop": {}}, r"transforms\[0\]: .* 'HorizontalFlop'; did you mean HorizontalFlip\?"),
        ({"Compose": {"transforms": []}}, "no.* a transform 'Compose'"),
        ({"Lambda": {}}, "no.* a transform 'Lambda'"),
        ({"LowRes": {}}, "no.* a transform 'LowRes'"),
        ({"HorizontalFlip": {"p": 0.5, "colour": 1}}, r"takes no argument 'colour'. It takes: p$"),
        ({"Downscale": {"scale_rang": [0.2, 0.5]}}, "'scale_rang'; did you mean scale_range?"),
        (
            {"HorizontalFlip": {"p": 1.5}},
            r"HorizontalFlip does not take .*: p; Input should be less than or equal to 1$",
        ),
        ({"ColorJitter": {"brightness": "O.3"}}, "ColorJitter does not take"),
        ({"CropOnBlack": {"area": 0.3}}, r"takes no argument 'area'. It takes: scale, ratio, p$"),
        (
            {"CropOnBlack": {"scale": [0.5, 0.2]}},
            r"transforms\[0\]: CropOnBlack.scale=\[0.5, 0.2\]; .* smaller .* first",
        ),
        ({"LowResolution": {"scale": 0.5}}, r"LowResolution.scale=0.5; expected two numbers"),
        ({"LowResolution": {"p": "often"}}, r"LowResolution.p='often'; expected a number in 0 .. 1"),
        ({"OneOf": {"transforms": [{"ToGrey": {}}]}}, r"OneOf.transforms\[0\]: .* 'ToGrey'; did you mean ToGray\?"),
        ({"OneOf": {"transforms": []}}, "OneOf has no transforms"),
        ({"OneOf": {"p": 0.5}}, "OneOf has no transforms"),
        ({"OneOf": {"transforms": "ToGray"}}, "expected a list of transforms"),
        ({"OneOf": {"transforms": [{"ToGray": {}}], "p": 3}}, r"OneOf.p=3; expected"),
        ({"OneOf": {"transforms": [{"ToGray": {"p": 0.0}}]}}, "OneOf does not take"),
        ({"ToGray": None}, "ToGray has None; expected its arguments by name"),
        ({"HorizontalFlip": {}, "ToGray": {}}, "expected one name"),
        ({}, "expected one name"),
    ],
)
def test_wrong_transforms_are_refused_before_training(transform, says):
    with pytest.raises(ConfigError, match=says):
        Augment(transforms=[transform]).check()


def test_transform_that_fails_on_an_image_is_named():
    augment = Augment(transforms=[{"HorizontalFlip": {}}, {"RandomCrop": {"height": 64, "width": 64}}])
    with pytest.raises(
        ConfigError, match=r"augment\.transforms\[1\] \(RandomCrop\) fails on an image of \(12, 10, 3\)"
    ):
        augment(image(), seed=1, position=0)


@pytest.mark.parametrize(
    ("transform", "makes"),
    [
        ({"RandomCrop": {"height": 4, "width": 6, "p": 0.5}}, r"uint8 \(4, 6, 3\)"),
        ({"Transpose": {"p": 0.5}}, r"uint8 \(10, 12, 3\)"),
        ({"Normalize": {"p": 0.5}}, r"float32 \(12, 10, 3\)"),
        ({"OneOf": {"transforms": [{"ToGray": {}}, {"Resize": {"height": 9, "width": 9}}]}}, r"uint8 \(9, 9, 3\)"),
    ],
)
def test_transform_that_changes_size_or_type_is_named(transform, makes):
    """Before training, whatever its probability; and when it happens, as it may happen with others only."""
    (name,) = transform
    augment = Augment(transforms=[FLIP, {"ToGray": {}}, transform])
    says = (
        rf"augment\.transforms\[2\] \({name}\) makes {makes} of a crop of uint8 \(12, 10, 3\); expected the same size"
    )
    augment.check()
    with pytest.raises(ConfigError, match=says):
        augment.check(height_px=12, width_px=10)
    with pytest.raises(ConfigError, match=says):
        for position in range(40):
            augment(image(), seed=1, position=position)


def test_checking_leaves_what_is_drawn_as_it_was():
    transforms = [FLIP, {"ColorJitter": {"p": 0.5}}]
    checked = Augment(transforms=transforms)
    checked.check(height_px=12, width_px=10)
    assert drawn(checked, range(10)) == drawn(Augment(transforms=transforms), range(10))


def test_one_of_several_is_applied_as_often_as_its_weight_says():
    given = np.full((4, 4, 3), 100, dtype=np.uint8)
    fills = [
        {"Erasing": {"scale": [1, 1], "ratio": [1, 1], "fill": fill, "p": p}} for fill, p in ((0, 0.25), (255, 0.75))
    ]
    augment = Augment(transforms=[{"OneOf": {"transforms": fills, "p": 0.4}}])
    pixels = np.array([augment(given, seed=1, position=position)[1, 1, 0] for position in range(2000)])
    for value, share in ((100, 0.6), (0, 0.1), (255, 0.3)):
        assert (pixels == value).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 2000))


def test_own_transforms_are_uncorrelated_with_those_of_albumentations():
    """Both draw from the sample's one stream: a flip, and a low resolution that takes all detail away."""
    augment = Augment(transforms=[FLIP, {"LowResolution": {"scale": [0.05, 0.05], "p": 0.5}}])
    given = np.zeros((8, 8, 3), dtype=np.uint8)
    given[:, 4:] = 255
    given[0, 0] = given[7, 7] = 128
    seen = [augment(given, seed=1, position=position) for position in range(2000)]
    was_made_small = np.array([float((one == one[0, 0]).all()) for one in seen])
    was_flipped = np.array([float(one[0, 0, 0] == 255) for one in seen])[was_made_small == 0]
    assert was_made_small.mean() == pytest.approx(0.5, abs=0.045)
    assert was_flipped.mean() == pytest.approx(0.5, abs=0.065)


def test_flip_in_both_lists_is_refused_and_others_are_not():
    with pytest.raises(ConfigError, match=r"HorizontalFlip is in augment\.transforms and in augment\.on_device"):
        Augment(transforms=[FLIP], on_device=[FLIP])
    Augment(transforms=[{"ToGray": {}}], on_device=[{"ToGray": {}}, FLIP])


PINNED_FLIPS = "xxx......x..x..x.x...x.x"
