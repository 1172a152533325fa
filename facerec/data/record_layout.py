"""How a record file is laid out: which of its records are images, in InsightFace's layout and in im2rec's."""

from pathlib import Path

import numpy as np

from facerec.core.errors import DataError
from facerec.data.recordio import Record, RecordReader

MOST_EXACT = 2**24  # float32 counts so far


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


def settle_lost_labels(reader: RecordReader, labels_N: np.ndarray, *, first_image: int) -> list[int]:
    """Fills in the labels of images whose records cannot be read, in InsightFace's layout.

    There the images of an identity are neighbours, in the order of the labels, and a record for each identity has the
    range of their keys. Between two images of one identity lies a third; elsewhere the range decides.

    Args:
        reader: the file.
        labels_N: float32, of N images; NaN where a record cannot be read. Changed in place.
        first_image: row of the first image: 1, or 0 in im2rec's layout, in which nothing tells.

    Returns:
        The rows whose labels were filled in.

    Raises:
        DataError: what reading a record raises, where nothing tells its label.
    """
    lost, known = np.flatnonzero(np.isnan(labels_N)), np.flatnonzero(~np.isnan(labels_N))
    for index in lost.tolist():
        label = None
        if first_image == 1 and len(known):
            place = int(np.searchsorted(known, index))
            before = int(labels_N[known[place - 1]]) if place else 0
            after = int(labels_N[known[place]]) if place < len(known) else len(reader) - 1 - len(labels_N) - 1
            label = before if before == after else _label_by_range(reader, labels_N, index, range(before, after + 1))
        if label is None:
            where = reader.where(first_image + index)
            reader.record(first_image + index)
            raise DataError(f"{where}: label {labels_N[index]} is no identity number")
        labels_N[index] = label
    return (first_image + lost).tolist()


def _label_by_range(reader: RecordReader, labels_N: np.ndarray, index: int, labels: range) -> int | None:
    """Of the labels, the one whose identity record has the image in its range, and no image of another label."""
    for label in labels:
        row = 1 + len(labels_N) + label
        try:
            found = reader.record(row).labels.tolist() if row < len(reader) else []
        except DataError:
            continue
        if len(found) == 2 and 1 <= found[0] <= index + 1 < found[1] <= min(len(labels_N) + 1, MOST_EXACT):
            own = labels_N[int(found[0]) - 1 : int(found[1]) - 1]
            if np.isin(own[~np.isnan(own)], label).all():
                return label
    return None


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
