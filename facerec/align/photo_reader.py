"""Reads photos and crops of any format as RGB pixels, and writes crops: the one way in and out of image files.

Alignment in advance, alignment as a table is read, and the sources of crops all read here, so that a photo gives the
same pixels everywhere.
"""

import os
from pathlib import Path

import numpy as np

from facerec.core.errors import DataError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".gif", ".avif")
"""Formats of photos; of an animated one, the first picture."""


def decode_rgb(encoded: bytes, *, where: str) -> np.ndarray:
    """Decodes one image, turned upright as its EXIF orientation says.

    By OpenCV, which decodes JPEG crops faster than torchvision (1.3 times) and Pillow (1.9 times), to the same pixels.

    Greyscale becomes three equal channels, 16 bits are scaled to 8, CMYK is converted, and an alpha channel is dropped
    (Pillow's `convert("RGB")`, to within one level; but of 16-bit greyscale, where Pillow clips what is above 255).

    Args:
        encoded: the file's bytes, in any format that OpenCV reads.
        where: names the image in errors: file and record, or path.

    Returns:
        uint8 (H, W, 3), RGB, writable and contiguous.

    Raises:
        DataError: the bytes are not an image, or end too early.
    """
    import cv2

    pixels = None
    if encoded:
        try:
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise DataError(
            f"{where}: {len(encoded)} bytes that do not decode as an image; "
            "the image is damaged, or of a format that OpenCV does not read"
        )
    return pixels


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All of a file. Raises DataError, naming it, where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, as damaged tables have it
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None


def encode_jpeg(image: np.ndarray, *, quality: int = 95) -> bytes:
    """uint8 (H, W, 3), RGB -> a JPEG."""
    import cv2

    done, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # of an array of that kind, always
    return encoded.tobytes()


def encode_png(image: np.ndarray) -> bytes:
    """uint8 (H, W, 3), RGB -> a PNG."""
    import cv2

    done, encoded = cv2.imencode(".png", image[:, :, ::-1])
    assert done  # of an array of that kind, always
    return encoded.tobytes()
