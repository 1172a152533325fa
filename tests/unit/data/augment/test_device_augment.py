"""Augmentation on the device is keyed by seed and place in the stream, and each transform draws for itself."""

import pickle

import numpy as np
import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.data.augment.device_augment import DeviceAugment

FLIP = {"HorizontalFlip": {"p": 0.5}}
ALL = (FLIP, {"ColorJitter": {"p": 0.8}}, {"ToGray": {"p": 0.2}}, {"GaussianBlur": {"p": 0.3}}, {"Erasing": {"p": 0.5}})


def images(num: int, size_px: int = 16) -> torch.Tensor:
    """The same image again and again."""
    pixels = np.random.Generator(np.random.Philox(5)).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    return torch.from_numpy(np.broadcast_to(pixels, (num, size_px, size_px, 3)).copy())


def test_no_transforms_give_the_batch_back():
    given = images(3)
    assert DeviceAugment()(given, seed=1, positions=np.arange(3)) is given and len(DeviceAugment()) == 0


def test_result_depends_on_image_seed_and_position_alone():
    augment, given = DeviceAugment(transforms=ALL), images(40)
    expected = augment(given, seed=1, positions=np.arange(40))
    assert torch.equal(given, images(40))  # stays as it was
    order = np.random.Generator(np.random.Philox(1)).permutation(40)
    torch.manual_seed(3)
    assert torch.equal(augment(given, seed=1, positions=order), expected[order])
    for position in (0, 17, 39):
        alone = pickle.loads(pickle.dumps(augment))(images(1), seed=1, positions=np.array([position]))
        assert torch.equal(alone[0], expected[position])
    assert len({image.numpy().tobytes() for image in expected}) > 35
    assert (augment(given, seed=2, positions=np.arange(40)) == expected).all(dim=(1, 2, 3)).sum() < 5


def test_global_random_numbers_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    DeviceAugment(transforms=ALL)(images(8), seed=1, positions=np.arange(8))
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])


def test_flips_are_pinned():
    given = images(24)
    flipped = DeviceAugment(transforms=[FLIP])(given, seed=1, positions=np.arange(24))
    was_flipped = (flipped != given).any(dim=3).any(dim=2).any(dim=1)
    assert "".join("x" if one else "." for one in was_flipped) == PINNED_FLIPS
    assert torch.equal(flipped[was_flipped], given[was_flipped].flip(2))


def test_two_transforms_of_one_half_are_uncorrelated():
    """Also two of one name, and neighbouring positions."""
    augment = DeviceAugment(
        transforms=[
            {"Erasing": {"scale": [0.2, 0.2], "ratio": [1, 1], "fill": 0, "p": 0.5}},
            FLIP,
            {"ColorJitter": {"brightness": [0.5, 0.5], "contrast": 0, "saturation": 0, "p": 0.5}},
            {"ColorJitter": {"brightness": [0.5, 0.5], "contrast": 0, "saturation": 0, "p": 0.5}},
        ]
    )
    given = torch.full((4000, 5, 5, 3), 200, dtype=torch.uint8)
    given[:, :, 2:] = 240
    seen = augment(given, seed=1, positions=np.arange(4000)).numpy()[..., 0]
    brightest = seen.max(axis=(1, 2))
    half_of_them = (brightest < 200) & (brightest > 80)  # one of the two, or the other
    figures = np.stack([(seen == 0).any(axis=(1, 2)), seen[:, 0, 0] > seen[:, 0, 4], half_of_them]).astype(float)
    erased = figures[0]
    assert erased.mean() == pytest.approx(0.5, abs=0.032) and half_of_them.mean() == pytest.approx(0.5, abs=0.032)
    flips_only = DeviceAugment(transforms=[{"ToGray": {"p": 0.0}}, FLIP])(given, seed=1, positions=np.arange(4000))
    flipped = (flips_only.numpy()[:, 0, 0, 0] == 240).astype(float)
    assert flipped.mean() == pytest.approx(0.5, abs=0.032)
    four = np.corrcoef(np.stack([erased, flipped, half_of_them, np.roll(flipped, 1), np.roll(erased, 1)]))
    assert np.abs(four - np.eye(5)).max() < 0.064  # four standard errors


def test_p_is_the_share_of_the_samples():
    grey = DeviceAugment(transforms=[{"ToGray": {"p": 0.1}}])(images(4000, 2), seed=1, positions=np.arange(4000))
    share = (grey[..., 0] == grey[..., 1]).all(dim=2).all(dim=1).float().mean().item()
    assert share == pytest.approx(0.1, abs=0.019)
    always = DeviceAugment(transforms=[{"HorizontalFlip": {"p": 1}}])(images(9), seed=1, positions=np.arange(9))
    assert torch.equal(always, images(9).flip(2))


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        ({"HorizontalFlop": {}}, r"augment\.on_device\[0\]: no transform 'HorizontalFlop' .* mean HorizontalFlip\?"),
        (
            {"CLAHE": {}},
            r"no transform 'CLAHE' on the device\. There are HorizontalFlip, .* "
            r"put all others into augment\.transforms",
        ),
        ({"HorizontalFlip": {"prob": 0.5}}, r"HorizontalFlip takes no argument 'prob'"),
        ({"HorizontalFlip": {"p": 1.5}}, r"HorizontalFlip\.p=1\.5; expected a number in 0 \.\. 1"),
        ({"ColorJitter": {"hue": 0.1}}, r"takes no argument 'hue'. It takes: brightness, contrast, saturation, p$"),
        ({"ColorJitter": {"brightness": -1}}, r"augment\.on_device\[0\]: ColorJitter\.brightness=-1"),
        ({"HorizontalFlip": {}, "ToGray": {}}, "expected one name"),
        ({"ToGray": 0.5}, "ToGray has 0.5; expected its arguments by name"),
        ("ToGray", "expected one name"),
    ],
)
def test_wrong_transforms_are_refused(transform, says):
    with pytest.raises(ConfigError, match=says):
        DeviceAugment(transforms=[transform])


def test_transform_that_cannot_take_the_crops_is_found_before_training():
    augment = DeviceAugment(transforms=[FLIP, {"GaussianBlur": {"sigma_limit": [1, 10], "p": 0.01}}])
    augment.check(height_px=112, width_px=112)
    with pytest.raises(ConfigError, match=r"augment\.on_device\[1\]: GaussianBlur.sigma_limit=\[1.0, 10.0\] needs 30"):
        augment.check(height_px=16, width_px=16)


PINNED_FLIPS = "xxx.x.x...xxxx..xx......"
