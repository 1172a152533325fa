"""Reads tables of photos: path, identity and, optionally, the five landmarks of the face, and its box."""

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facerec.align.landmark_checks import refuse_fractions
from facerec.core.csv_lines import csv_lines
from facerec.core.errors import DataError
from facerec.core.string_table import StringTable, as_int64

LANDMARK_COLUMNS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "x5", "y5")
BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")


@dataclass(frozen=True, kw_only=True)
class PhotoTable:
    """The N lines of a table.

    Attributes:
        paths: the paths as written, N.
        identities: the names, sorted.
        labels: int64 (N,): the number of the identity in `identities`.
        landmarks: float64 (N, 5, 2), x and y in pixels of the photo: left eye, right eye, nose, left and right mouth
            corner, in the image's left and right; or None.
        boxes: float64 (N, 4): left, top, width, height of the face, NaN if the line has none; or None.
    """

    paths: StringTable
    identities: list[str]
    labels: np.ndarray
    landmarks: np.ndarray | None
    boxes: np.ndarray | None = None


def read_photo_table(path: Path, *, on_fault: Callable[[str, str], None] | None = None) -> PhotoTable:
    """Reads a CSV or TSV (see `csv_lines`) with the header path,identity and, optionally, x1,y1 ... x5,y5, and
    box_x,box_y,box_width,box_height (which may be empty in a line).

    Other columns are ignored. Relative paths start at the table's folder.

    Args:
        path: the table.
        on_fault: called with the place (such as "line 7") and the fault of a line, instead of raising. The line is
            skipped.

    Raises:
        DataError: the file, a column or all lines are missing; or a line does not fit; names the line.
    """
    numbers: dict[str, int] = {}
    found, paths, points, boxes = array("q"), StringTable(), array("d"), array("d")
    has_landmarks = has_boxes = False
    for line, row in _rows(path, on_fault):
        has_landmarks, has_boxes = LANDMARK_COLUMNS[0] in row, BOX_COLUMNS[0] in row
        file, identity = row["path"].strip(), row["identity"].strip()
        try:
            if not file or not identity:
                raise DataError(f"expected a path and an identity, found {file!r} and {identity!r}")
            landmarks, box = _landmarks(row) if has_landmarks else [], _box(row) if has_boxes else []
        except DataError as error:
            _refuse(path, line, str(error), on_fault)
            continue
        points.extend(landmarks)
        boxes.extend(box)
        paths.append(file)
        found.append(numbers.setdefault(identity, len(numbers)))
    if not numbers:
        raise DataError(f"{path}: no line after its header")
    landmarks_N52 = np.frombuffer(points, dtype=np.float64).reshape(-1, 5, 2) if has_landmarks else None
    if landmarks_N52 is not None:
        refuse_fractions(landmarks_N52, path=path)
    identities = sorted(numbers)
    new_number = np.empty(len(numbers), dtype=np.int64)
    new_number[[numbers[name] for name in identities]] = np.arange(len(numbers))
    return PhotoTable(
        identities=identities,
        labels=new_number[as_int64(found)],
        paths=paths,
        landmarks=landmarks_N52,
        boxes=np.frombuffer(boxes, dtype=np.float64).reshape(-1, 4) if has_boxes else None,
    )


def _refuse(path: Path, line: int, what: str, on_fault: Callable[[str, str], None] | None) -> None:
    if on_fault is None:
        raise DataError(f"{path}, line {line}: {what}")
    on_fault(f"line {line}", what)


def _rows(path: Path, on_fault: Callable[[str, str], None] | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the lines after the header, with their numbers."""
    return csv_lines(
        path,
        columns=("path", "identity"),
        groups=(LANDMARK_COLUMNS, BOX_COLUMNS),
        numbers=(*LANDMARK_COLUMNS, *BOX_COLUMNS),
        expected="path, identity and, for photos that are not aligned, x1, y1 ... x5, y5",
        on_fault=None if on_fault is None else lambda line, what: on_fault(f"line {line}", what),
    )


def _landmarks(row: dict[str, str]) -> list[float]:
    try:
        numbers = [float(row[column]) for column in LANDMARK_COLUMNS]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        texts = [row[column] for column in LANDMARK_COLUMNS]
        raise DataError(f"expected ten numbers x1, y1 ... x5, y5, found {texts}")
    return numbers


def _box(row: dict[str, str]) -> list[float]:
    texts = [row[column].strip() for column in BOX_COLUMNS]
    if not any(texts):
        return [math.nan] * 4
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)) or min(numbers[2:]) <= 0:
        raise DataError(f"expected left, top, width and height of a box, or nothing, found {texts}")
    return numbers
