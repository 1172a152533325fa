"""Puts many images on one sheet, row by row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import DataError

_GAP_PX = 2
_PAPER = 255
_TITLE_PX, _FONT_PX = 20, 13


def image_grid(images: np.ndarray, *, columns: int) -> np.ndarray:
    """Places N images in rows of `columns`, on white, two pixels apart.

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


def contact_sheet(images: np.ndarray, *, columns: int, path: Path, row_titles: Sequence[str] = ()) -> None:
    """Writes `image_grid` of the images as a PNG file; its folder is made if absent.

    Args:
        images, columns: see `image_grid`.
        path: path of the file.
        row_titles: the text above each row; or none.
    """
    import cv2

    sheet = image_grid(images, columns=columns)
    if row_titles:
        row_px = images.shape[1] + _GAP_PX
        rows = [sheet[number * row_px : (number + 1) * row_px] for number in range(len(row_titles))]
        titled = (part for row, title in zip(rows, row_titles, strict=True) for part in (_title(title, sheet), row))
        sheet = np.concatenate(list(titled))
    encoded = cv2.imencode(".png", sheet[:, :, ::-1])[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(encoded.tobytes())


def _title(text: str, sheet: np.ndarray) -> np.ndarray:
    """Returns the text on white, as wide as the sheet: uint8 (20, W, 3)."""
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (sheet.shape[1], _TITLE_PX), (_PAPER,) * 3)
    shown = text.encode("utf-8", "replace").decode()  # file names may not be UTF-8
    ImageDraw.Draw(strip).text((2, 2), shown, fill=(0, 0, 0), font=ImageFont.load_default(size=_FONT_PX))
    return np.asarray(strip)
