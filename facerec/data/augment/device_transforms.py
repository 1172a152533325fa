"""Augmentations of a whole batch on the device, with separate random numbers for each sample.

An image gets the same bytes on the CPU and on a GPU: all arithmetic uses multiples of a power of two that fit the 24
bits of a float32, so that nothing is rounded unless a comment says so. Letters: N samples, H x W pixels, D random
numbers for each sample. Names and arguments are those of albumentations.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch

from facerec.core.errors import ConfigError
from facerec.data.augment.transform_list import check_number, check_range

_UNIT = 2.0**11  # factors are multiples of its inverse: 255 * 10 * 2^11 fits 24 bits
_MAX_FACTOR = 10.0
_LUMA = (19595, 38470, 7471)  # times 2^-16, as in Pillow; with the added half, their sum fits 24 bits
# The weights of a blur sum to the first number; between its two passes, pixels are multiples of the other's inverse:
# 255 * 2^4 * 2^11 fits 24 bits.
_TAPS, _BETWEEN = 2.0**11, 2.0**4


class DeviceTransform(Protocol):
    """The interface of the classes in this file.

    Attributes:
        num_draws: D, the number of uniform numbers that a sample needs.
    """

    num_draws: ClassVar[int]

    def __call__(self, images: torch.Tensor, draws_ND: np.ndarray) -> torch.Tensor:
        """Transforms uint8 (N, H, W, 3) RGB, on any device, to the same shape and device; does not modify the input.

        `draws_ND` is float64 in [0, 1). Raises ConfigError for images too small for it.
        """
        ...


class HorizontalFlip:
    """Mirrors the image."""

    num_draws: ClassVar[int] = 0

    def __call__(self, images: torch.Tensor, draws_ND: np.ndarray) -> torch.Tensor:
        """See `DeviceTransform`."""
        return images.flip(2)


class ToGray:
    """Sets all three channels to the luma of ITU-R BT.601."""

    num_draws: ClassVar[int] = 0

    def __call__(self, images: torch.Tensor, draws_ND: np.ndarray) -> torch.Tensor:
        """See `DeviceTransform`."""
        return _luma(_planes(images)).to(torch.uint8)[:, 0, :, :, None].expand_as(images)


class ColorJitter:
    """Multiplies brightness, then contrast, then saturation by a factor each; blends like Pillow's ImageEnhance.

    torchvision and albumentations change their order from one sample to the next; here it is fixed.

    Args:
        brightness, contrast, saturation: x for factors in 1 - x .. 1 + x, or [smallest, largest].

    Raises:
        ConfigError: numbers out of range.
    """

    num_draws: ClassVar[int] = 3

    def __init__(
        self,
        *,
        brightness: float | Sequence[float] = 0.2,
        contrast: float | Sequence[float] = 0.2,
        saturation: float | Sequence[float] = 0.2,
    ) -> None:
        given = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.factors = [_factors(f"ColorJitter.{name}", value) for name, value in given.items()]

    def __call__(self, images: torch.Tensor, draws_ND: np.ndarray) -> torch.Tensor:
        """See `DeviceTransform`."""
        brightness, contrast, saturation = (
            _fixed(_between(draw, *factors), images.device)
            for draw, factors in zip(draws_ND.T, self.factors, strict=True)
        )
        planes = _blended(_planes(images), 0, brightness)
        num_pixels = planes.shape[2] * planes.shape[3]
        sums = _luma(planes).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
        planes = _blended(planes, ((sums + num_pixels // 2) // num_pixels).float(), contrast)
        return _images(_blended(planes, _luma(planes), saturation))


class Erasing:
    """Covers a random rectangle (Zhong et al., arXiv 1708.04896).

    Args:
        scale: smallest and largest area, as a share of the image's.
        ratio: smallest and largest height / width, drawn uniformly in its logarithm; the part outside is cut off.
        fill: "random" for a colour per sample, or a grey level 0 .. 255.

    Raises:
        ConfigError: numbers out of range.
    """

    num_draws: ClassVar[int] = 7

    def __init__(
        self,
        *,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        fill: str | float = "random",
    ) -> None:
        self.scale = check_range("Erasing.scale", scale, low=0.0, high=1.0)
        self.ratio = check_range("Erasing.ratio", ratio, low=0.01, high=100.0)
        if isinstance(fill, str) and fill != "random":
            raise ConfigError(f"Erasing.fill={fill!r}; expected random, or a grey level 0 .. 255")
        self.fill = None if isinstance(fill, str) else round(check_number("Erasing.fill", fill, low=0, high=255))

    def __call__(self, images: torch.Tensor, draws_ND: np.ndarray) -> torch.Tensor:
        """See `DeviceTransform`."""
        _, height, width, _ = images.shape
        area = _between(draws_ND[:, 0], *self.scale) * height * width
        ratio = np.exp(_between(draws_ND[:, 1], *map(math.log, self.ratio)))
        heights = np.clip(np.rint(np.sqrt(area * ratio)), 1, height)
        widths = np.clip(np.rint(np.sqrt(area / ratio)), 1, width)
        tops = np.floor(draws_ND[:, 2] * (height - heights + 1))
        lefts = np.floor(draws_ND[:, 3] * (width - widths + 1))
        colours = np.floor(draws_ND[:, 4:7] * 256) if self.fill is None else np.full((len(draws_ND), 3), self.fill)
        rows = _covered(tops, heights, height, images.device)[:, :, None]
        columns = _covered(lefts, widths, width, images.device).repeat_interleave(3, dim=1)[:, None, :]
        fill = torch.from_numpy(np.tile(colours.astype(np.uint8), width)).to(images.device)[:, None, :]
        # rows of 3 W bytes, because loops over three channels are slow
        return torch.where(rows & columns, fill, images.flatten(2)).view_as(images)


class GaussianBlur:
    """Blurs with a Gaussian over three standard deviations, mirrored at the border.

    Args:
        sigma_limit: smallest and largest standard deviation in pixels.

    Raises:
        ConfigError: numbers out of range.
    """

    num_draws: ClassVar[int] = 1

    def __init__(self, *, sigma_limit: Sequence[float] = (0.5, 2.0)) -> None:
        self.sigma_limit = check_range("GaussianBlur.sigma_limit", sigma_limit, low=0.1, high=10.0)

    def __call__(self, images: torch.Tensor, draws_ND: np.ndarray) -> torch.Tensor:
        """See `DeviceTransform`."""
        radius = math.ceil(3 * self.sigma_limit[1])
        if radius >= min(images.shape[1:3]):
            raise ConfigError(
                f"GaussianBlur.sigma_limit={list(self.sigma_limit)} needs {radius} pixels on each side, more than an "
                f"image of {images.shape[1]} x {images.shape[2]} has; expected a smaller one"
            )
        sigmas = _between(draws_ND[:, 0], *self.sigma_limit)
        taps = torch.from_numpy(_taps(sigmas, radius)).to(images.device)
        across = _weighted_sum(_planes(images), taps, dim=3).mul_(_BETWEEN / _TAPS).add_(0.5).floor_()
        return _images(_weighted_sum(across, taps, dim=2).mul_(1 / (_BETWEEN * _TAPS)).add_(0.5).floor_())


DEVICE_TRANSFORMS: dict[str, type] = {
    cls.__name__: cls for cls in (HorizontalFlip, ColorJitter, ToGray, Erasing, GaussianBlur)
}
"""By the names for configurations."""


def _factors(key: str, value: float | Sequence[float]) -> tuple[float, float]:
    if isinstance(value, int | float):
        spread = check_number(key, value, low=0.0, high=_MAX_FACTOR - 1)
        return max(0.0, 1 - spread), 1 + spread
    return check_range(key, value, low=0.0, high=_MAX_FACTOR)


def _between(draws: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * draws


def _planes(images: torch.Tensor) -> torch.Tensor:
    """Converts uint8 (N, H, W, 3) to float32 (N, 3, H, W), in the order of memory."""
    return images.permute(0, 3, 1, 2).contiguous().float()  # moving bytes is faster than moving floats


def _images(planes: torch.Tensor) -> torch.Tensor:
    """Inverts `_planes`, for whole numbers 0 .. 255."""
    return planes.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _fixed(factors: np.ndarray, device: torch.device) -> torch.Tensor:
    """Returns the factors as multiples of 2^-11: float32 (N, 1, 1, 1)."""
    whole = np.rint(factors * _UNIT) / _UNIT
    return torch.from_numpy(whole.astype(np.float32)).to(device)[:, None, None, None]


def _luma(planes: torch.Tensor) -> torch.Tensor:
    """Returns the luma (N, 1, H, W) of (N, 3, H, W), as Pillow's mode L: whole numbers."""
    red, green, blue = planes.split(1, dim=1)
    total = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return total.add_(2**15).mul_(2.0**-16).floor_()


def _blended(planes: torch.Tensor, other: torch.Tensor | int, factor: torch.Tensor) -> torch.Tensor:
    """Computes other + factor * (planes - other), rounded and within 0 .. 255."""
    return (planes - other).mul_(factor).add_(other).add_(0.5).floor_().clamp_(0, 255)


def _covered(firsts: np.ndarray, lengths: np.ndarray, size: int, device: torch.device) -> torch.Tensor:
    """True for each row or column in the rectangle: bool (N, size)."""
    bounds = torch.from_numpy(np.stack([firsts, firsts + lengths]).astype(np.int32)).to(device)[:, :, None]
    places = torch.arange(size, device=device)
    return (places >= bounds[0]) & (places < bounds[1])


def _taps(sigmas: np.ndarray, radius: int) -> np.ndarray:
    """Returns whole weights of each sample, which sum to 2^11: float32 (N, 2 * radius + 1)."""
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (places / sigmas[:, None]) ** 2)
    whole = np.rint(weights / weights.sum(axis=1, keepdims=True) * _TAPS)
    whole[:, radius] += _TAPS - whole.sum(axis=1)
    return whole.astype(np.float32)


def _weighted_sum(planes: torch.Tensor, taps: torch.Tensor, *, dim: int) -> torch.Tensor:
    """Sums each pixel and its neighbours along one dimension, times the weights."""
    size, radius = planes.shape[dim], taps.shape[1] // 2
    places = torch.arange(-radius, size + radius, device=planes.device).abs()
    mirrored = (size - 1) - ((size - 1) - places).abs()
    padded = planes.index_select(dim, mirrored)
    total = torch.zeros_like(planes)
    for number in range(taps.shape[1]):
        total.addcmul_(padded.narrow(dim, number, size), taps[:, number, None, None, None])
    return total
