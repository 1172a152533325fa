"""Face crops in files: what reading one from disk checks."""

import os

import numpy as np

from facerec.align.photo_reader import PHOTO_SUFFIXES
from facerec.core.crop_size import DEFAULT_SIZE_PX, size_keys
from facerec.core.errors import ConfigError, DataError

IMAGE_SUFFIXES = PHOTO_SUFFIXES
PACKED_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp")
"""Formats that go into record files as they are; what other readers of such files know is fewer than OpenCV does."""
COMPANION_SUFFIXES = (".db", ".ini", ".txt", ".md", ".csv", ".json", ".xml", ".npy")
"""Of files that may lie beside images and are none."""


def size_of(path: str) -> int:
    """Bytes of a file. Raises DataError, naming it, where it is not there."""
    try:
        return os.path.getsize(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, as damaged tables have it
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None


def asked_size(height_px: int | None, width_px: int | None) -> tuple[int, int] | None:
    """Returns the height and width that `input.height_px` and `input.width_px` ask for; None where both are null.

    Raises:
        ConfigError: one of them is not positive.
    """
    if height_px is None and width_px is None:
        return None
    asked = (
        DEFAULT_SIZE_PX[0] if height_px is None else height_px,
        DEFAULT_SIZE_PX[1] if width_px is None else width_px,
    )
    if min(asked) < 1:
        raise ConfigError(f"{size_keys(asked)}; expected positive numbers, such as {size_keys(DEFAULT_SIZE_PX)}")
    return asked


def check_size(image: np.ndarray, *, where: str, size_px: tuple[int, int]) -> np.ndarray:
    """Returns the image. Raises DataError, with the keys to set, where its height and width are others."""
    height, width = image.shape[:2]
    if (height, width) != size_px:
        raise DataError(
            f"{where}: the image is {height} x {width} pixels; expected {size_px[0]} x {size_px[1]}. If it is an "
            f"aligned crop, set {size_keys((height, width))}; if it is a photo, align it first"
        )
    return image
