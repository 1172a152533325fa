"""Aligned crops from photos and their five landmarks, and the table that holds the landmarks."""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facerec.align.similarity import TEMPLATE_112, similarity_transform
from facerec.core.errors import DataError

LANDMARK_COLUMNS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "x5", "y5")


@dataclass(frozen=True, kw_only=True)
class LandmarkedPhoto:
    """One line of a landmark table.

    Attributes:
        path: where the photo lies; relative paths in the table are relative to the table's folder.
        identity: the person's name.
        landmarks: float64 (5, 2), x and y in pixels: left eye, right eye, nose, left and right mouth corner, in the
            image's left and right.
    """

    path: Path
    identity: str
    landmarks: np.ndarray


def align_crop(photo: np.ndarray, landmarks: np.ndarray, *, size_px: int = 112) -> np.ndarray:
    """Warps a photo so that its landmarks lie on the template: bilinear, black outside the photo.

    Args:
        photo: uint8 (H, W, 3).
        landmarks: (5, 2), x and y in pixels, in the order of the template.
        size_px: height and width of the crop; the template is scaled with it.

    Returns:
        uint8 (size_px, size_px, 3), channels in the photo's order.

    Raises:
        DataError: the photo is not uint8 (H, W, 3), or the landmarks are not five distinct points.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise DataError(f"photo is {photo.dtype} {photo.shape}; expected uint8 (height, width, 3)")
    matrix = similarity_transform(landmarks, TEMPLATE_112 * (size_px / 112))
    return cv2.warpAffine(photo, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def read_landmarks(table: Path) -> list[LandmarkedPhoto]:
    """Reads a CSV with the header path,identity,x1,y1,...,x5,y5.

    Raises:
        DataError: the file or a column is missing, or a line holds something that is not a number; names the line.
    """
    if not table.is_file():
        raise DataError(f"{table}: no such file; expected a CSV with the columns path, identity, x1, y1 ... x5, y5")
    with table.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        missing = {"path", "identity", *LANDMARK_COLUMNS} - set(rows.fieldnames or ())
        if missing:
            raise DataError(f"{table}: the header lacks {', '.join(sorted(missing))}; found {rows.fieldnames}")
        photos = []
        for row in rows:
            try:
                points = np.array([float(row[column]) for column in LANDMARK_COLUMNS]).reshape(5, 2)
            except (TypeError, ValueError):
                raise DataError(f"{table}, line {rows.line_num}: expected ten numbers x1 ... y5, found {row}") from None
            photos.append(LandmarkedPhoto(path=table.parent / row["path"], identity=row["identity"], landmarks=points))
    return photos
