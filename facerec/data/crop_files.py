"""Face crops in files: what reading one from disk checks."""

import os

import numpy as np

from facerec.align.photo_reader import PHOTO_SUFFIXES
from facerec.core.errors import DataError

IMAGE_SUFFIXES = PHOTO_SUFFIXES
PACKED_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp")
"""Formats that go into record files as they are; what other readers of such files know is fewer than OpenCV does."""
COMPANION_SUFFIXES = (".db", ".ini", ".txt", ".md", ".csv", ".json", ".xml", ".npy")
"""Of files that may lie beside images and are none."""
SIZE_PX = (112, 112)
"""Height and width of a crop."""


def size_of(path: str) -> int:
    """Bytes of a file. Raises DataError, naming it, where it is not there."""
    try:
        return os.path.getsize(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, as damaged tables have it
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None


def check_size(image: np.ndarray, *, where: str, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """The image itself. Raises DataError where its height and width are others."""
    height, width = image.shape[:2]
    if (height, width) != size_px:
        raise DataError(
            f"{where}: the image is {height} x {width} pixels; expected {size_px[0]} x {size_px[1]}. Align the photos "
            "first"
        )
    return image
