"""Many images on one sheet, row by row."""

from pathlib import Path

import numpy as np

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import DataError

_GAP_PX = 2
_PAPER = 255


def image_grid(images: np.ndarray, *, columns: int) -> np.ndarray:
    """Lays N images out in rows of `columns`, on white, two pixels apart.

    Args:
        images: uint8 (N, H, W, 3), RGB, N > 0.
        columns: images in a row; the last row may be shorter.

    Returns:
        uint8 (rows * (H + 2) - 2, columns * (W + 2) - 2, 3), RGB.

    Raises:
        DataError: the images are of another type or shape, or `columns` is not positive.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) == 0 or columns < 1:
        raise DataError(
            f"images are {images.dtype} {images.shape} in {columns} columns; expected uint8 (number, height, width, 3)"
        )
    num, height, width, _ = images.shape
    columns = min(columns, num)
    rows = -(-num // columns)
    cells = np.full((rows * columns, height + _GAP_PX, width + _GAP_PX, 3), _PAPER, dtype=np.uint8)
    cells[:num, :height, :width] = images
    cells = cells.reshape(rows, columns, height + _GAP_PX, width + _GAP_PX, 3).swapaxes(1, 2)
    sheet = cells.reshape(rows * (height + _GAP_PX), columns * (width + _GAP_PX), 3)
    return sheet[:-_GAP_PX, :-_GAP_PX]


def contact_sheet(images: np.ndarray, *, columns: int, path: Path) -> None:
    """Writes `image_grid` of the images as a PNG file; its folder is made if absent."""
    import cv2

    encoded = cv2.imencode(".png", image_grid(images, columns=columns)[:, :, ::-1])[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(encoded.tobytes())
