"""Each transform of the device against a slow one that is obviously right, sample by sample."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torchvision.transforms.v2 import functional

from facerec.core.errors import ConfigError
from facerec.data.augment.device_transforms import (
    DEVICE_TRANSFORMS,
    ColorJitter,
    Erasing,
    GaussianBlur,
    HorizontalFlip,
    ToGray,
)


def noise(num: int, height: int = 20, width: int = 16, *, seed: int = 0) -> torch.Tensor:
    """Blocks with noise, so that there is something to blur and a contrast to change."""
    random = np.random.Generator(np.random.Philox(seed))
    blocks = random.integers(0, 200, (num, -(-height // 4), -(-width // 4), 3))
    pixels = blocks.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return torch.from_numpy((pixels + random.integers(0, 56, pixels.shape)).astype(np.uint8))


def draws(transform, num: int, *, seed: int = 1) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).random((num, transform.num_draws))


def planes(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) -> (N, 3, H, W), as torchvision has it."""
    return images.permute(0, 3, 1, 2)


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(DEVICE_TRANSFORMS)),
    num=st.integers(1, 5),
    height=st.integers(7, 30),
    width=st.integers(7, 30),
    seed=st.integers(0, 2**32),
)
def test_a_sample_comes_out_the_same_alone_and_in_a_batch(name, num, height, width, seed):
    transform = DEVICE_TRANSFORMS[name]()
    images, numbers = noise(num, height, width, seed=seed), draws(transform, num, seed=seed)
    before = images.clone()
    together = transform(images, numbers)
    assert together.dtype == torch.uint8 and together.shape == images.shape and torch.equal(images, before)
    for number in range(num):
        part = slice(number, number + 1)
        assert torch.equal(transform(images[part], numbers[part]), together[part])


def test_flip_and_grey_are_torchvisions():
    images = noise(3)
    flipped = HorizontalFlip()(images, draws(HorizontalFlip, 3))
    assert torch.equal(planes(flipped), functional.horizontal_flip(planes(images)))
    grey = ToGray()(images, draws(ToGray, 3))
    for one, expected in zip(grey.numpy(), images.numpy(), strict=True):
        assert np.array_equal(one[..., 0], np.asarray(Image.fromarray(expected).convert("L")))
        assert np.array_equal(one[..., 0], one[..., 1]) and np.array_equal(one[..., 0], one[..., 2])


@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_jitter_of_one_kind_is_pillows(name, enhance):
    jitter = ColorJitter(**{"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, name: [0.3, 2.5]})
    images, numbers = noise(12), draws(jitter, 12)
    factors = 0.3 + 2.2 * numbers[:, ["brightness", "contrast", "saturation"].index(name)]
    found = jitter(images, numbers).numpy().astype(int)
    for one, image, factor in zip(found, images.numpy(), factors, strict=True):
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor)).astype(int)
        assert np.abs(one - expected).max() <= 1  # Pillow cuts off, this rounds


def test_jitter_is_brightness_then_contrast_then_saturation():
    jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    images, numbers = noise(8), draws(jitter, 8)
    found = jitter(images, numbers).numpy().astype(int)
    for one, image, factors in zip(found, images, 0.6 + 0.8 * numbers, strict=True):
        expected = image.permute(2, 0, 1).double() / 255
        for change, factor in zip(
            (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation),
            factors.tolist(),
            strict=True,
        ):
            expected = change(expected, factor)
        assert np.abs(one - expected.permute(1, 2, 0).numpy() * 255).max() < 2.6


def test_jitter_of_nothing_changes_nothing():
    images = noise(3)
    jitter = ColorJitter(brightness=0, contrast=0, saturation=0)
    assert torch.equal(jitter(images, draws(jitter, 3)), images)


def test_factors_are_even_over_their_range():
    grey = torch.full((4000, 1, 1, 3), 100, dtype=torch.uint8)
    jitter = ColorJitter(brightness=0.5, contrast=0, saturation=0)
    levels = jitter(grey, draws(jitter, 4000))[:, 0, 0, 0].numpy()
    assert (levels.min(), levels.max()) == (50, 150)
    assert levels.mean() == pytest.approx(100, abs=5 * 100 / np.sqrt(12 * 4000))


def test_erasing_covers_one_rectangle_of_the_area_and_shape_asked_for():
    erasing = Erasing(scale=(0.1, 0.3), ratio=(0.5, 2.0))
    images = noise(400, 60, 50)
    images[images == 77] = 78
    found = Erasing(scale=(0.1, 0.3), ratio=(0.5, 2.0), fill=77)(images, draws(erasing, 400))
    areas, ratios, tops, lefts = [], [], [], []
    for one, image in zip(found, images, strict=True):
        covered = (one == 77).all(dim=2)
        assert torch.equal(one[~covered], image[~covered])
        rows, columns = covered.any(dim=1).nonzero().flatten(), covered.any(dim=0).nonzero().flatten()
        assert covered.sum() == len(rows) * len(columns)
        areas.append(len(rows) * len(columns) / 3000)
        ratios.append(len(rows) / len(columns))
        tops.append(int(rows[0]) / (60 - len(rows)))
        lefts.append(int(columns[0]) / (50 - len(columns)))
    assert 0.09 < min(areas) < 0.12 and 0.27 < max(areas) < 0.31 and np.mean(areas) == pytest.approx(0.2, abs=0.02)
    assert 0.45 < min(ratios) < 0.55 and 1.8 < max(ratios) < 2.2
    assert np.mean(np.log(ratios)) == pytest.approx(0, abs=0.1)
    for places in (tops, lefts):
        assert min(places) == 0 and max(places) == 1 and np.mean(places) == pytest.approx(0.5, abs=0.08)


def test_erasing_has_a_colour_for_each_sample():
    erasing = Erasing(scale=(1.0, 1.0), ratio=(0.8, 0.8))  # 13 x 16 of 20 x 16, cut at the width
    found = erasing(noise(300), draws(erasing, 300))
    colours = found[:, 10, 8].numpy()
    assert len(np.unique(colours, axis=0)) > 290 and np.abs(colours.mean(axis=0) - 127.5).max() < 5 * 74 / np.sqrt(300)


def test_blur_is_torchvisions():
    blur = GaussianBlur(sigma_limit=(0.5, 2.0))
    images, numbers = noise(8), draws(blur, 8)
    found = blur(images, numbers).numpy().astype(int)
    for one, image, draw in zip(found, images, numbers[:, 0], strict=True):
        sigma = 0.5 + 1.5 * float(draw)
        expected = functional.gaussian_blur(image.permute(2, 0, 1), kernel_size=[13, 13], sigma=[sigma, sigma])
        assert np.abs(one - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_blur_keeps_the_brightness_of_a_plain_image():
    blur = GaussianBlur(sigma_limit=(0.1, 3.0))
    plain = torch.tensor([0, 1, 128, 255], dtype=torch.uint8)[:, None, None, None].expand(4, 12, 12, 3)
    assert torch.equal(blur(plain, draws(blur, 4)), plain)


def test_blur_wider_than_the_image_is_refused():
    with pytest.raises(ConfigError, match=r"needs 6 pixels on each side, more than an image of 6 x 9 has"):
        GaussianBlur(sigma_limit=(0.5, 2.0))(noise(1, 6, 9), np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ColorJitter(brightness=-0.1), r"ColorJitter.brightness=-0.1; expected a number in 0 .. 9"),
        (lambda: ColorJitter(contrast=[0.5, 11]), "ColorJitter.contrast=11"),
        (lambda: ColorJitter(saturation="0.O5"), "ColorJitter.saturation='0.O5'; expected two numbers"),
        (lambda: ColorJitter(saturation=True), "ColorJitter.saturation=True"),
        (lambda: Erasing(fill="noise"), "Erasing.fill='noise'; expected random, or a grey level"),
        (lambda: Erasing(fill=300), "Erasing.fill=300"),
        (lambda: Erasing(ratio=[0, 1]), "Erasing.ratio=0"),
        (lambda: GaussianBlur(sigma_limit=2.0), "GaussianBlur.sigma_limit=2.0; expected two numbers"),
        (lambda: GaussianBlur(sigma_limit=[0, 1]), "GaussianBlur.sigma_limit=0"),
    ],
)
def test_numbers_out_of_range_are_refused(build, says):
    with pytest.raises(ConfigError, match=says):
        build()
