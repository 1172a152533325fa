"""Lists the formats of crop files, and the files that may lie beside crops."""

import os

from facerec.align.photo_reader import PHOTO_SUFFIXES
from facerec.core.errors import DataError

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
