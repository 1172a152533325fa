"""Reads photos and crops of any format as RGB pixels, and writes crops: all image files go through this file.

`facerec align`, tables that are aligned while they are read, and the sources of crops all read here, so that a photo
gives the same pixels everywhere.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.errors import DataError
from facerec.core.file_kind import FileKind, kind_of_bytes

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
"""Formats of phone photos that OpenCV does not read; an extra of facerec reads them."""
PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".gif", ".avif", *HEIF_SUFFIXES
)  # fmt: skip
"""Formats of photos; of an animated photo, the first picture is read."""
HOW_TO_READ_HEIF = "pip install 'facerec[heif]' (the package pi-heif; pillow-heif works too), or convert it to JPEG"
_NO_IMAGE = {
    FileKind.LFS_POINTER: "it is a Git LFS pointer: run git lfs pull in the clone that it comes from",
    FileKind.HTML: "it is an HTML page, saved in place of the image: download it again",
    FileKind.XML: "it is an XML page, saved in place of the image: download it again",
}


class MissingReaderError(DataError):
    """An image has a format that needs a package which is not installed."""


def decode_rgb(encoded: bytes, *, where: str) -> np.ndarray:
    """Decodes one image, rotated by its EXIF orientation.

    It uses OpenCV, which decodes JPEG crops faster than torchvision (1.3 times) and Pillow (1.9 times), to the same
    pixels.

    Greyscale becomes three equal channels, 16 bits are scaled to 8, CMYK is converted, and alpha is dropped (the result
    is that of Pillow's `convert("RGB")`, to within one level; except that Pillow clips 16-bit greyscale above 255).

    Args:
        encoded: the file's bytes, in any format that OpenCV reads; or HEIC, if `pi_heif` or `pillow_heif` is
            installed.
        where: names the image in errors: file and record, or path.

    Returns:
        uint8 (H, W, 3), RGB, writable and contiguous.

    Raises:
        DataError: the bytes are not an image, or end too early.
        MissingReaderError: the bytes are HEIC, and no package that reads HEIC is installed.
    """
    import cv2

    pixels = None
    if encoded:
        try:
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error:
            pixels = None
    if pixels is None and is_heif(encoded):
        return _decode_heif(encoded, where=where)
    if pixels is None:
        kind = kind_of_bytes(encoded)
        reason = _NO_IMAGE.get(kind, "the image is damaged, or of a format that OpenCV does not read")
        raise DataError(f"{where}: {len(encoded)} bytes that do not decode as an image; {reason}")
    return pixels


def is_heif(encoded: bytes) -> bool:
    """True for a file of the HEIF family other than AVIF, which OpenCV reads."""
    brands = encoded[8:64].partition(b"meta")[0]
    is_family = any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"))
    return encoded[4:8] == b"ftyp" and is_family and b"avif" not in brands


def _decode_heif(encoded: bytes, *, where: str) -> np.ndarray:
    """Decodes like `decode_rgb`. The file's rotation is applied; its EXIF orientation only repeats the rotation."""
    try:
        import pi_heif as heif
    except ImportError:
        try:
            import pillow_heif as heif
        except ImportError:
            raise MissingReaderError(
                f"{where}: a HEIC photo (.heic, .heif) needs another package: {HOW_TO_READ_HEIF}"
            ) from None
    try:
        return np.array(heif.open_heif(encoded, convert_hdr_to_8bit=True).to_pillow().convert("RGB"))
    except (ValueError, RuntimeError, OSError, EOFError) as error:
        raise DataError(f"{where}: {len(encoded)} bytes that do not decode as a HEIC photo ({error})") from None


def read_image(image: Any, *, where: str) -> np.ndarray:
    """Returns the pixels of an image that a user passes in Python: a path, an array, or a PIL image.

    Args:
        image: a path, read as by `decode_rgb`; uint8 (H, W, 3) RGB, returned as it is; or a PIL image, rotated by its
            EXIF orientation.
        where: names the image in errors.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DataError: the file is absent or no image, or the array is none.
    """
    if isinstance(image, str | os.PathLike):
        if Path(image).is_dir():
            raise DataError(f"{where}: a folder; expected an image file: pass the paths of the files in it")
        return decode_rgb(read_bytes(image), where=where)
    if is_pil(image):
        from PIL import ImageOps

        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        raise DataError(f"{where} is {found}; expected a path, a PIL image, or an array uint8 (height, width, 3), RGB")
    return image


def is_pil(image: Any) -> bool:
    """True for an image of PIL; nothing is imported for the answer."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads a whole file. Raises DataError, which names it, if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, as in damaged tables
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None


def encode_jpeg(image: np.ndarray, *, quality: int = 95) -> bytes:
    """Encodes uint8 (H, W, 3), RGB, as JPEG."""
    import cv2

    done, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # always true for such an array
    return encoded.tobytes()


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, 3), RGB, as PNG."""
    import cv2

    done, encoded = cv2.imencode(".png", image[:, :, ::-1])
    assert done  # always true for such an array
    return encoded.tobytes()
