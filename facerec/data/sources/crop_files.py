"""Lists the formats of crop files, and the other files that are allowed in folders of crops."""

import os

from facerec.align.photo_reader import PHOTO_SUFFIXES
from facerec.core.errors import DataError

IMAGE_SUFFIXES = PHOTO_SUFFIXES
PACKED_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp")
"""Formats that go into record files unchanged; other readers of such files know fewer formats than OpenCV."""
COMPANION_SUFFIXES = (".db", ".ini", ".txt", ".md", ".csv", ".json", ".xml", ".npy")
"""Suffixes of files that may be in folders of images and are not images."""


def size_of(path: str) -> int:
    """Returns the bytes of a file. Raises DataError, which names it, if it cannot be read."""
    try:
        return os.path.getsize(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, as in damaged tables
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
