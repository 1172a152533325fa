"""Compares InsightFace's identity records with the images: each record gives the range of keys of one identity.

Letters: N images; I identity records; B = R + 1 boundaries of the R runs of consecutive images with one label.
"""

import numpy as np

from facerec.core.errors import DataError
from facerec.data.records.record_layout import begins_insightface_set
from facerec.data.records.recordio import RecordReader
from facerec.inspection.findings import Findings


def check_identity_records(
    reader: RecordReader,
    labels_N: np.ndarray,
    *,
    first_image: int,
    stop: int,
    num_classes: int | None,
    faults: Findings,
) -> None:
    """Adds the faults of the records that follow the images, and of the keys.

    Ranges are float32, so that above 2^24 a number also stands for its neighbours; a range counts as right if one of
    its meanings is. Unreadable images may belong to either neighbour.

    Args:
        reader: the file.
        labels_N: float32 (N,); NaN where a record cannot be read.
        first_image, stop: rows of the images; those of the identities follow.
        num_classes: the number of identities in `property`.
        faults: the faults are added to this.
    """
    _check_keys(reader, stop, faults)
    if num_classes is not None and len(reader) - stop != num_classes:
        what = f"has {len(reader) - stop} records of identities, but property says {num_classes} identities"
        faults.add("identity record", reader.rec, "", what)
    ranges_I2 = _read_ranges(reader, stop, faults)
    rows, ranges_I2 = _well_formed(reader, stop, ranges_I2, faults)
    if not len(rows):
        return
    _check_contiguous(reader, rows, ranges_I2, stop, faults)
    _check_against_labels(reader, rows, ranges_I2, labels_N, first_image, faults)


def _place(reader: RecordReader, row: int) -> tuple[str, str]:
    return str(reader.rec), reader.place(row)


def _check_keys(reader: RecordReader, stop: int, faults: Findings) -> None:
    """Returns all keys from 0 to the last, and the last key according to record 0."""
    keys = reader.index.keys
    bounds = np.append(-1, reader.key(0) if keys is None else keys)
    for i in np.flatnonzero(np.diff(bounds) > 1).tolist():
        first, last = int(bounds[i]) + 1, int(bounds[i + 1]) - 1
        faults.add("index", reader.idx, f"key {first}" if first == last else f"keys {first} .. {last}", "has no line")
    try:
        head = reader.record(0)
    except DataError:
        return  # reported already, as are its other faults
    if not begins_insightface_set(reader, head):
        return
    end = head.labels[1]
    if np.float32(reader.key(-1) + 1) != end:
        what = f"says that the last key is {end - 1:.0f}, but that of {reader.idx.name} is {reader.key(-1)}"
        faults.add("header", *_place(reader, 0), what)


def _read_ranges(reader: RecordReader, stop: int, faults: Findings) -> np.ndarray:
    """Returns the ranges, float32 (I, 2); NaN if a record is not that of an identity."""
    ranges_I2 = np.full((len(reader) - stop, 2), np.nan, dtype=np.float32)
    for number, row in enumerate(range(stop, len(reader))):
        if reader.begins_behind_end(row):
            continue  # reported already, with the other records that are images
        try:
            record = reader.record(row)
        except DataError as error:
            faults.add("damaged record", *_place(reader, row), str(error).removeprefix(f"{reader.where(row)}: "))
            continue
        if record.image or len(record.labels) != 2:
            found = "an image" if record.image else f"numbers: {len(record.labels)} of them"
            what = f"holds {found}; expected two, the first key of an identity and one past its last"
            faults.add("identity record", *_place(reader, row), what)
            continue
        ranges_I2[number] = record.labels
    return ranges_I2


def _well_formed(
    reader: RecordReader, stop: int, ranges_I2: np.ndarray, faults: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and ranges of the records that give ranges of keys of images."""
    first_I, end_I = ranges_I2.T
    last_key = reader.key(stop - 1)
    is_read = ~np.isnan(first_I) & ~np.isnan(end_I)
    is_range = is_read & (first_I >= 1) & (end_I > first_I) & (end_I <= np.float32(last_key + 1))
    for number in np.flatnonzero(is_read & ~is_range).tolist():
        first, end = ranges_I2[number].tolist()
        if first == end:
            faults.add("empty identity", *_place(reader, stop + number), f"its keys begin and end at {first:.0f}")
        else:
            what = f"gives the keys {first:.0f} .. {end - 1:.0f}; those of images are 1 .. {last_key}"
            faults.add("identity record", *_place(reader, stop + number), what)
    return stop + np.flatnonzero(is_range), ranges_I2[is_range]


def _check_contiguous(
    reader: RecordReader, rows: np.ndarray, ranges_I2: np.ndarray, stop: int, faults: Findings
) -> None:
    """Checks that ranges follow each other from key 1 to the last image; skips ranges after an unreadable record."""
    begins = np.append(np.float32(1), ranges_I2[:-1, 1])
    is_after = np.append(rows[0] == stop, np.diff(rows) == 1)
    for i in np.flatnonzero(is_after & (ranges_I2[:, 0] != begins)).tolist():
        what = f"begins at key {ranges_I2[i, 0]:.0f}; expected {begins[i]:.0f}, where the one before it ends"
        faults.add("identity record", *_place(reader, int(rows[i])), what)
    end = np.float32(reader.key(stop - 1) + 1)
    if rows[-1] == len(reader) - 1 and ranges_I2[-1, 1] != end:
        what = f"the last range ends at key {ranges_I2[-1, 1] - 1:.0f}; the last image has {end - 1:.0f}"
        faults.add("identity record", *_place(reader, int(rows[-1])), what)


def _check_against_labels(
    reader: RecordReader,
    rows: np.ndarray,
    ranges_I2: np.ndarray,
    labels_N: np.ndarray,
    first_image: int,
    faults: Findings,
) -> None:
    readable = np.flatnonzero(~np.isnan(labels_N))
    if not len(readable):
        return
    labels = labels_N[readable]
    starts = np.append(0, np.flatnonzero(labels[1:] != labels[:-1]) + 1)  # of the runs, among readable images
    _check_runs(reader, labels[starts], first_image + readable[starts], faults)
    rows_of_runs, rows_before = first_image + readable[starts], first_image + readable[np.append(starts[1:], 0) - 1]
    # Boundary b may be any key after the last image before it, up to the first image after it.
    low_B = np.append(reader.key(first_image), reader.index.keys_of(rows_before) + 1).astype(np.float32)
    end_key = reader.key(first_image + len(labels_N) - 1) + 1
    high_B = np.append(reader.index.keys_of(rows_of_runs), end_key).astype(np.float32)
    first_I, end_I = ranges_I2.T
    # A range fits if it can begin at one boundary and end at a later one.
    left = np.maximum(np.searchsorted(high_B, first_I), np.searchsorted(high_B, end_I) - 1)
    right = np.minimum(np.searchsorted(low_B, first_I, "right"), np.searchsorted(low_B, end_I, "right") - 1) - 1
    for i in np.flatnonzero(left > right).tolist():
        first, end = (int(key) for key in ranges_I2[i])
        inside = labels[
            slice(*np.searchsorted(readable, [reader.index.row_from(k) - first_image for k in (first, end)]))
        ]
        if not len(inside):
            continue  # none of its images can be read
        what = f"gives the keys {first} .. {end - 1}; the images there have "
        found = np.unique(inside)
        if len(found) > 1:
            what += f"the labels {', '.join(f'{label:.0f}' for label in found[:5])}{', ...' if len(found) > 5 else ''}"
        else:
            what += f"the label {found[0]:.0f}, and so have others"
        faults.add("identity record", *_place(reader, int(rows[i])), what)


def _check_runs(reader: RecordReader, labels_R: np.ndarray, rows_R: np.ndarray, faults: Findings) -> None:
    """Checks that the images of an identity are consecutive."""
    order = labels_R.argsort(kind="stable")
    again = np.sort(order[1:][labels_R[order][1:] == labels_R[order][:-1]])
    for run in again.tolist():
        what = f"the label {labels_R[run]:.0f} again, after images of others; those of an identity must be consecutive"
        faults.add("label", *_place(reader, int(rows_R[run])), what)
