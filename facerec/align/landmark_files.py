"""Reads files about the faces in photos: our tables, CelebA's text files, InsightFace's `.lst`.

CelebA: Z. Liu et al., "Deep learning face attributes in the wild", ICCV 2015; `list_landmarks_celeba.txt`,
`list_landmarks_align_celeba.txt`, `list_bbox_celeba.txt`, `identity_CelebA.txt`. `.lst`: `parse_lst_line` in
InsightFace's face_preprocess.py.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facerec.align.landmark_checks import refuse_fractions
from facerec.align.photo_table import read_photo_table
from facerec.core.csv_lines import TABLE_SUFFIXES
from facerec.core.errors import DataError
from facerec.core.string_table import StringTable
from facerec.core.text_files import open_text

_CELEBA_LANDMARKS = tuple(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
_CELEBA_BOX = ("x_1", "y_1", "width", "height")
FORMATS = (
    "a table (.csv, .tsv) with path, identity and, optionally, x1, y1 ... x5, y5 and box_x, box_y, box_width, "
    "box_height; an InsightFace .lst; or a .txt in the format of CelebA's list_landmarks, list_bbox and identity files"
)


@dataclass(frozen=True, kw_only=True)
class FaceList:
    """The N lines of a file about faces in photos; a photo may have several lines.

    Attributes:
        paths: the paths of the photos as written, N.
        identities: names, N; or None if the file has none.
        landmarks: float64 (N, 5, 2), x and y in pixels of the photo, in the template's order; or None.
        boxes: float64 (N, 4): left, top, width, height, NaN if the line has none; or None.
    """

    paths: StringTable
    identities: StringTable | None = None
    landmarks: np.ndarray | None = None
    boxes: np.ndarray | None = None


def read_face_list(path: Path) -> FaceList:
    """Reads any of `FORMATS`, recognised by the suffix, and in a `.txt` by the header.

    Raises:
        DataError: the file is missing or has another format, or a line does not fit; names the line.
    """
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return _from_table(path)
    if suffix not in (".lst", ".txt"):
        raise DataError(f"{path}: expected {FORMATS}")
    found = _read_lst(path) if suffix == ".lst" else _read_celeba(path)
    if not len(found.paths):
        raise DataError(f"{path}: it lists no face; expected {FORMATS}")
    if found.landmarks is not None:
        refuse_fractions(found.landmarks, path=path)
    return found


def _from_table(path: Path) -> FaceList:
    table = read_photo_table(path)
    identities = StringTable()
    for label in table.labels.tolist():
        identities.append(table.identities[label])
    return FaceList(paths=table.paths, identities=identities, landmarks=table.landmarks, boxes=table.boxes)


def _read_lst(path: Path) -> FaceList:
    """Reads columns separated by tabs: aligned or not, path, label; left, top, right, bottom; five x, then five y."""
    paths, identities, boxes, points = StringTable(), StringTable(), array("d"), array("d")
    num_fields = 0
    for number, line in _lines(path):
        where, fields = f"{path}, line {number}", line.split("\t")
        if len(fields) not in (3, 7, 17) or not fields[1] or not fields[2]:
            raise DataError(
                f"{where}: expected 3, 7 or 17 fields separated by tabs (aligned, path, label; box; five points), "
                f"found {len(fields)}: {line[:200]!r}"
            )
        if num_fields and len(fields) != num_fields:
            raise DataError(f"{where}: {len(fields)} fields, but {num_fields} in the lines before")
        num_fields = len(fields)
        paths.append(fields[1])
        identities.append(fields[2])
        left, top, right, bottom = _numbers(fields[3:7], where=where) or (0.0, 0.0, 1.0, 1.0)
        if right <= left or bottom <= top:
            raise DataError(f"{where}: expected left, top, right and bottom of a box, found {fields[3:7]}")
        boxes.extend((left, top, right - left, bottom - top))
        points.extend(_numbers(fields[7:], where=where))
    landmarks = np.frombuffer(points, dtype=np.float64).reshape(-1, 2, 5).swapaxes(1, 2) if num_fields == 17 else None
    return FaceList(
        paths=paths,
        identities=identities,
        landmarks=None if landmarks is None else np.ascontiguousarray(landmarks),
        boxes=np.frombuffer(boxes, dtype=np.float64).reshape(-1, 4) if num_fields >= 7 else None,
    )


def _read_celeba(path: Path) -> FaceList:
    """Reads the number of lines, a header and the lines; or, without these two, a path and an identity in each line."""
    lines = _lines(path)
    number, first = next(lines, (1, ""))
    if len(first.split()) == 2:
        return _read_celeba_identities(path)
    header = tuple(next(lines, (2, ""))[1].split())
    columns = header[1:] if header[:1] == ("image_id",) else header
    if not first.strip().isdigit() or columns not in (_CELEBA_LANDMARKS, _CELEBA_BOX):
        raise DataError(
            f"{path}, line {number}: {first[:80]!r}, then {' '.join(header)[:80]!r}; expected the number of lines, "
            f"then the header {' '.join(_CELEBA_LANDMARKS)}, or image_id {' '.join(_CELEBA_BOX)}; or a photo and an "
            "identity in each line"
        )
    paths, values = StringTable(), array("d")
    for number, line in lines:
        name, *fields = line.split()
        if len(fields) != len(columns):
            raise DataError(f"{path}, line {number}: expected a name and {len(columns)} numbers, found {line[:200]!r}")
        paths.append(name)
        values.extend(_numbers(fields, where=f"{path}, line {number}"))
    if len(paths) != int(first):
        raise DataError(f"{path}: {len(paths)} lines, but its first line says {int(first)}; is the file complete?")
    rows = np.frombuffer(values, dtype=np.float64).reshape(len(paths), -1)
    if columns == _CELEBA_LANDMARKS:
        return FaceList(paths=paths, landmarks=rows.reshape(-1, 5, 2))
    rows = np.where((rows[:, 2:] > 0).all(axis=1, keepdims=True), rows, math.nan)  # CelebA has a few boxes of size 0
    return FaceList(paths=paths, boxes=rows)


def _read_celeba_identities(path: Path) -> FaceList:
    paths, identities = StringTable(), StringTable()
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != 2:
            raise DataError(f"{path}, line {number}: expected a photo and an identity, found {line[:200]!r}")
        paths.append(fields[0])
        identities.append(fields[1])
    return FaceList(paths=paths, identities=identities)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not empty, with their numbers."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _numbers(fields: Sequence[str], *, where: str) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: expected {len(fields)} numbers, found {list(fields)}")
    return numbers
