"""How a record file is laid out: which of its records are images, in InsightFace's layout and in im2rec's."""

from pathlib import Path

import numpy as np

from facerec.core.errors import DataError
from facerec.data.recordio import Record, RecordReader


def image_rows(reader: RecordReader) -> tuple[int, int]:
    """(row of the first image, number of images) of a record file in either layout.

    Raises:
        DataError: record 0 begins neither, or contradicts the index.
    """
    head = reader.record(0)
    if head.image:
        return 0, len(reader)
    if not begins_insightface_set(reader, head):
        raise DataError(
            f"{reader.where(0)}: neither an image (im2rec's layout) nor the two numbers that begin a set in "
            "InsightFace's layout"
        )
    id_start = head.labels[0]
    # The number is a float32: beyond 2^24 it is rounded, and the index decides which record is the first identity.
    reach = int(np.spacing(id_start))
    for row in range(max(1, int(id_start) - reach), min(len(reader), int(id_start) + reach + 1)):
        if not reader.record(row).image:
            break
    else:
        row = len(reader)
    if row == 1 or np.float32(row) != id_start or reader.key(row - 1) != row - 1:
        raise DataError(
            f"{reader.where(0)}: says that images have the keys 1 to {int(id_start) - 1}, but {reader.idx.name} lists "
            f"{len(reader)} records up to key {reader.key(-1)}. One of the two files is damaged, or belongs to "
            "another set: copy both again"
        )
    return 1, row - 1


def begins_insightface_set(reader: RecordReader, head: Record) -> bool:
    """Whether record 0 holds the two numbers that begin a set in InsightFace's layout."""
    return len(head.labels) == 2 and 2 <= head.labels[0] < np.inf and reader.key(0) == 0


def read_property(path: Path) -> tuple[int, int, int] | None:
    """(number of identities, height, width) of the crops, as the file says; None where there is none.

    Raises:
        DataError: it says something else.
    """
    if not path.exists():
        return None
    text = path.read_text(errors="replace").strip()
    try:
        num_classes, height_px, width_px = (int(field) for field in text.split(","))
    except ValueError:
        raise DataError(f"{path}: holds {text[:60]!r}; expected num_classes,height,width") from None
    return num_classes, height_px, width_px
