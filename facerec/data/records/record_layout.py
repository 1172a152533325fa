"""The layout of a record file: which of its records are images, in InsightFace's layout and in im2rec's."""

import codecs
from pathlib import Path

import numpy as np

from facerec.align.photo_reader import decode_rgb
from facerec.core.crop_size import DEFAULT_SIZE_PX, size_keys
from facerec.core.errors import DataError
from facerec.data.records.recordio import Record, RecordReader

_NUM_LOOKED_AT = 8  # number of images that are checked, spread over the set
MOST_EXACT = 2**24  # float32 represents all whole numbers up to here


def image_rows(reader: RecordReader) -> tuple[int, int]:
    """Returns the row of the first image and the number of images of a record file in either layout.

    Raises:
        DataError: record 0 fits neither layout, or contradicts the index.
    """
    head = reader.record(0)
    if head.image:
        return 0, len(reader)
    if not begins_insightface_set(reader, head):
        raise DataError(
            f"{reader.where(0)}: neither an image (im2rec's layout) nor the two numbers at the beginning of a set in "
            "InsightFace's layout"
        )
    id_start = head.labels[0]
    # The number is a float32: above 2^24 it is rounded, and the index decides which record is the first identity.
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
    """Fills in the labels of images with unreadable records, in InsightFace's layout.

    In this layout the images of an identity are consecutive, in the order of the labels, and a record for each identity
    has the range of their keys. Images between two images of one identity belong to it; elsewhere the ranges decide.

    Args:
        reader: the file.
        labels_N: float32, labels of N images; NaN if a record cannot be read. Changed in place.
        first_image: row of the first image: 1, or 0 in im2rec's layout, which gives no hint.

    Returns:
        The rows whose labels were filled in.

    Raises:
        DataError: the error of reading the record, if nothing gives its label.
    """
    lost = np.flatnonzero(np.isnan(labels_N))
    num_identities = len(reader) - first_image - len(labels_N)
    is_known = (labels_N >= 0) & (labels_N < num_identities) & (labels_N == np.floor(labels_N))
    known = np.flatnonzero(is_known)
    places = np.searchsorted(known, lost)
    for place in np.unique(places).tolist() if first_image == 1 else []:
        gap = lost[slice(*np.searchsorted(places, [place, place + 1]))]
        before = int(labels_N[known[place - 1]]) if place else 0
        after = int(labels_N[known[place]]) if place < len(known) else num_identities - 1
        if before == after:
            labels_N[gap] = before
        else:
            _fill_by_ranges(reader, labels_N, gap, range(before, after + 1))
    unknown = np.flatnonzero(np.isnan(labels_N))
    if len(unknown):
        row = first_image + int(unknown[0])
        reader.record(row)
        raise DataError(f"{reader.where(row)}: label nan is not an identity number")
    return (first_image + lost).tolist()


def _fill_by_ranges(reader: RecordReader, labels_N: np.ndarray, gap: np.ndarray, labels: range) -> None:
    """Fills a gap of consecutive images with labels from `labels`, by the ranges in the identities' records.

    A range counts if no image in it is known to belong to another identity. A range with images that are known to be
    of its identity must be among them: labels that do not begin at 0, or have gaps, are not numbers of the records."""
    ranges = []
    num_confirmed = 0
    for label in labels:
        try:
            found = reader.record(1 + len(labels_N) + label).labels.tolist()
        except DataError:
            continue
        if len(found) == 2 and 1 <= found[0] < found[1] <= min(len(labels_N) + 1, MOST_EXACT):
            first, stop = int(found[0]) - 1, int(found[1]) - 1
            own = labels_N[first:stop]
            known = own[~np.isnan(own)]
            if np.isin(known, label).all():
                ranges.append((label, first, stop))
                num_confirmed += bool(len(known))
    for label, first, stop in ranges if num_confirmed else []:
        labels_N[gap[slice(*np.searchsorted(gap, [first, stop]))]] = label


def begins_insightface_set(reader: RecordReader, head: Record) -> bool:
    """True if record 0 holds the two numbers at the beginning of a set in InsightFace's layout."""
    return len(head.labels) == 2 and 2 <= head.labels[0] < np.inf and reader.key(0) == 0


def size_of_images(
    reader: RecordReader, *, first_image: int, num_images: int, stated_px: tuple[int, int]
) -> tuple[int, int]:
    """Returns height and width of the images: as stated, unless several images agree on another size.

    `property` is often copied from another set, and other tools ignore its height and width.

    Args:
        reader: the file.
        first_image: row of the first image.
        num_images: number of consecutive images from there on.
        stated_px: height and width that `property` gives.
    """
    rows = first_image + np.unique(np.linspace(0, num_images - 1, _NUM_LOOKED_AT).astype(np.int64))
    found_px: set[tuple[int, int]] = set()
    for row in rows.tolist():
        try:
            image = decode_rgb(reader.record(row).image, where=reader.where(row))
        except DataError:
            continue
        found_px.add((image.shape[0], image.shape[1]))
        if stated_px in found_px or len(found_px) > 1:
            return stated_px
    return found_px.pop() if found_px else stated_px


def wrong_size(described: tuple[int, int, int], size_px: tuple[int, int]) -> str:
    """Returns the fault of a `property` whose height and width are not those of the images."""
    height_px, width_px = size_px
    return (
        f"says that the images are {described[1]} x {described[2]} pixels, but they are {height_px} x {width_px}; "
        f"correct it to {described[0]},{height_px},{width_px}"
    )


def read_property(path: Path) -> tuple[int, int, int] | None:
    """Returns (number of identities, height, width) of the crops from the file; None if there is no file.

    An editor may have put a byte-order mark before the numbers, or have saved the file as UTF-16.

    Raises:
        DataError: it has other content.
    """
    if not path.exists():
        return None
    text = _text_of(path).strip()
    try:
        num_classes, height_px, width_px = (int(field) for field in text.split(","))
    except ValueError:
        raise DataError(f"{path}: holds {text[:60]!r}; expected num_classes,height,width") from None
    return num_classes, height_px, width_px


def settled_size(
    path: Path,
    described: tuple[int, int, int] | None,
    asked_px: tuple[int, int] | None,
    *,
    found_px: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Returns height and width of the crops of a record file.

    Args:
        path: path of its `property`.
        described: the content of `property`; None if there is none.
        asked_px: `input.height_px` and `input.width_px`; None if both are null.
        found_px: see `size_of_images`; None if the images were not checked.

    Raises:
        DataError: the keys ask for another size than `property`, or the images, have.
    """
    if described is None:
        return asked_px or DEFAULT_SIZE_PX
    stated_px = found_px or described[1:]
    if asked_px is not None and asked_px != stated_px:
        says = "that" if stated_px == described[1:] else "another size, but"
        raise DataError(
            f"{path}: says {says} the crops are {stated_px[0]} x {stated_px[1]} pixels; expected {asked_px[0]} x "
            f"{asked_px[1]} ({size_keys(asked_px)}). Set {size_keys(stated_px)}, or use a set of the other size"
        )
    return stated_px


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")
