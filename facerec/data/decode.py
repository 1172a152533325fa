"""From an encoded image (JPEG, PNG, …) to RGB pixels, and back."""

import numpy as np

from facerec.core.errors import DataError


def decode_rgb(encoded: bytes, *, where: str) -> np.ndarray:
    """Decodes one image.

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
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise DataError(
            f"{where}: {len(encoded)} bytes that do not decode as an image; "
            "the image is damaged, or of a format that OpenCV does not read"
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def encode_jpeg(image: np.ndarray, *, quality: int = 95) -> bytes:
    """uint8 (H, W, 3), RGB -> a JPEG."""
    import cv2

    done, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # of an array of that kind, always
    return encoded.tobytes()
