"""Inspects a record file: index against records, labels, identity records; damaged records do not end the inspection.

Letters: N images; R runs of consecutive images with one label; I identity records, in InsightFace's layout.
"""

from pathlib import Path

import numpy as np

from facerec.align.photo_reader import decode_rgb
from facerec.core.crop_size import DEFAULT_SIZE_PX
from facerec.core.errors import DataError
from facerec.data.records.record_index import RecordIndex, read_damaged_index, read_index
from facerec.data.records.record_layout import (
    begins_insightface_set,
    image_rows,
    read_property,
    settled_size,
    size_of_images,
    wrong_size,
)
from facerec.data.records.recordio import Record, RecordReader, unpack
from facerec.data.sources.identity_names import NAMES_FILE, read_identity_names
from facerec.inspection.findings import Findings
from facerec.inspection.identity_records import check_identity_records
from facerec.inspection.survey import NO_LABEL, Seen, see_image, without

_MOST_UNREADABLE = 1000  # consecutive records at the end of a file that may be incomplete


class RecordItems:
    """The images of `train.rec`; see `facerec.inspection.survey.Items`.

    Args:
        root: the folder with `train.rec`, `train.idx` and, optionally, `property`.
        faults: faults that are found without reading the images are added to this.
        size_px: height and width that the crops must have; None: the size in `property`, else 112 x 112.

    Raises:
        DataError: `train.rec` or `train.idx` cannot be opened, or no line of the index is valid.
    """

    def __init__(self, *, root: Path, faults: Findings, size_px: tuple[int, int] | None = None) -> None:
        self._property = root / "property"
        self._names_path = root / NAMES_FILE
        self._names: list[str] = []
        idx = root / "train.idx"
        self._reader = RecordReader(rec=root / "train.rec", idx=idx, index=_index(idx, faults))
        self._described: tuple[int, int, int] | None = None
        try:
            self._described = read_property(self._property)
        except (DataError, OSError) as error:
            faults.add("property", self._property, "", without(str(self._property), error))
        self._first, self._stop, self._is_insightface = _image_range(self._reader, faults)
        self.size_px = self._settled_size(size_px, faults)
        self.kind = f"record files, {'InsightFace' if self._is_insightface else 'im2rec'} layout"
        self._starts = _check_offsets(self._reader, faults)
        _check_end(self._reader, faults)
        self._labels = np.full(len(self), np.nan, dtype=np.float32)
        self._has_other_id = np.zeros(len(self), dtype=bool)

    def _settled_size(self, asked_px: tuple[int, int] | None, faults: Findings) -> tuple[int, int]:
        if self._described is None:
            return asked_px or DEFAULT_SIZE_PX
        found_px = size_of_images(
            self._reader, first_image=self._first, num_images=len(self), stated_px=self._described[1:]
        )
        if found_px != self._described[1:]:
            faults.add("property", self._property, "", wrong_size(self._described, found_px))
        try:
            return settled_size(self._property, self._described, asked_px, found_px=found_px)
        except DataError as error:
            faults.add("property", self._property, "", without(str(self._property), error))
            return asked_px or found_px

    def __len__(self) -> int:
        return self._stop - self._first

    def see(self, index: int) -> Seen:
        """See `Items`."""
        row = self._first + index
        where = self._reader.where(row)
        if self._reader.begins_behind_end(row):
            return Seen(None)  # reported already, once for all of them
        try:
            payload, end = self._reader.read_to_end(row)
            record = unpack(payload, where=where)
        except DataError as error:
            return Seen(None, (("damaged record", without(where, error)),))
        self._labels[index] = record.labels[0]
        self._has_other_id[index] = record.id != self._reader.key(row)
        seen = see_image(
            record.image, lambda content: decode_rgb(content, where=where), where=where, size_px=self.size_px
        )
        left_out = self._left_out_after(end)
        return seen._replace(faults=(*seen.faults, ("index", left_out))) if left_out else seen

    def place(self, index: int) -> tuple[str, str]:
        """See `Items`."""
        return str(self._reader.rec), self._reader.place(self._first + index)

    def crop(self, index: int) -> np.ndarray:
        """See `Items`."""
        row = self._first + index
        return decode_rgb(self._reader.record(row).image, where=self._reader.where(row))

    def identity(self, label: int) -> str:
        """See `Items`."""
        return self._names[label] if label < len(self._names) else str(label)

    def check_labels(self, faults: Findings) -> np.ndarray:
        """Returns the labels, see `Items`. Also checks the records of the identities, and the keys."""
        num_readable = int((~np.isnan(self._labels)).sum())
        if 2 * self._has_other_id.sum() < num_readable:  # else the numbers mean something else, as in some sets
            for index in map(int, np.flatnonzero(self._has_other_id)):
                number = self._reader.record(self._first + index).id
                faults.add("index", *self.place(index), f"the record at this place has the number {number}")
        labels = self._identity_numbers(faults)
        self._check_gaps(labels, faults)
        self._check_names(labels, faults)
        if self._is_insightface:
            check_identity_records(
                self._reader, self._labels, first_image=self._first, stop=self._stop,
                num_classes=self._described[0] if self._described else None, faults=faults,
            )  # fmt: skip
        return labels

    def _identity_numbers(self, faults: Findings) -> np.ndarray:
        """int64 (N,)."""
        values = self._labels
        fits = (values >= 0) & (values == np.floor(values)) & (values < 2**53)
        # Unreadable records are reported already. A label that is not a number counts as unreadable from here on.
        is_seen = ~np.isnan(values)
        labels = np.full(len(values), NO_LABEL, dtype=np.int64)
        labels[fits] = values[fits]
        for index in map(int, np.flatnonzero(is_seen & ~fits)):
            faults.add("label", *self.place(index), f"the label {values[index]} is not an identity number")
        if self._described:
            num_classes = self._described[0]
            for index in map(int, np.flatnonzero(labels >= num_classes)):
                what = f"the label {labels[index]}, but property says {num_classes} identities"
                faults.add("label", *self.place(index), what)
        return labels

    def _check_gaps(self, labels: np.ndarray, faults: Findings) -> None:
        present = np.unique(labels)
        present = present[present != NO_LABEL]
        if self._described:
            present = present[present < self._described[0]]
        stop = self._described[0] if self._described else (int(present[-1]) + 1 if len(present) else 0)
        bounds = np.concatenate([[-1], present, [stop]])
        for before, after in ((int(bounds[i]), int(bounds[i + 1])) for i in np.flatnonzero(np.diff(bounds) > 1)):
            missing = f"label {before + 1}" if after - before == 2 else f"labels {before + 1} .. {after - 1}"
            faults.add("missing label", self._reader.rec, missing, "no image has it; numbers must not have gaps")

    def _check_names(self, labels: np.ndarray, faults: Findings) -> None:
        """Checks identities.csv, if the labels are right."""
        present, num_images = np.unique(labels, return_counts=True)
        if not self._names_path.exists() or (present != np.arange(len(present))).any():
            return
        try:
            self._names = read_identity_names(self._names_path, num_images)
        except DataError as error:
            faults.add("names", self._names_path, "", str(error).removeprefix(f"{self._names_path}: "))

    def _left_out_after(self, end: int) -> str:
        """Returns the fault if the record after one that ends at byte `end` begins elsewhere; else ""."""
        position = int(np.searchsorted(self._starts, end))
        is_last = position == len(self._starts)
        next_start = self._reader.size_bytes if is_last else int(self._starts[position])
        if end >= next_start:
            return ""
        return f"after it, {self._reader.idx.name} has no line for the bytes {end} .. {next_start - 1}"


def _index(idx: Path, faults: Findings) -> RecordIndex:
    try:
        return read_index(idx)
    except DataError:
        return read_damaged_index(idx, on_fault=lambda place, what: faults.add("index", idx, place, what))


def _image_range(reader: RecordReader, faults: Findings) -> tuple[int, int, bool]:
    """Returns (first, stop) rows of the images, guessed if necessary; and True for InsightFace's layout."""
    head: Record | None = None
    refusal = ""
    try:
        head = reader.record(0)
        # begins with an image and ends with identities: InsightFace's layout, without the line of key 0
        if not (head.image and _is_identity(reader, len(reader) - 1)):
            first, num_images = image_rows(reader)
            return first, first + num_images, first == 1
    except DataError as error:
        # the pass finds later unreadable records itself
        refusal = str(error) if str(error).startswith(reader.where(0)) else ""
    stop = _first_identity(reader)
    if stop == len(reader) and head is not None and begins_insightface_set(reader, head):
        stop = max(1, reader.index.row_from(int(head.labels[0])))
    is_insightface = stop < len(reader) or (head is not None and begins_insightface_set(reader, head))
    first = int(is_insightface and reader.key(0) == 0)
    if refusal and (head is not None or first == 1):
        faults.add("header", reader.rec, reader.place(0), refusal.removeprefix(f"{reader.where(0)}: "))
    return first, stop, is_insightface


def _first_identity(reader: RecordReader) -> int:
    """Returns the first row of the records without an image that end the file; else the number of rows."""
    stop, num_unreadable = len(reader), 0
    for row in range(len(reader) - 1, 0, -1):
        is_identity = _is_identity(reader, row)
        num_unreadable = num_unreadable + 1 if is_identity is None else 0
        if is_identity:
            stop = row
        if is_identity is False or num_unreadable > _MOST_UNREADABLE:
            break
    return stop


def _is_identity(reader: RecordReader, row: int) -> bool | None:
    """Returns the record; None if it cannot be read."""
    try:
        record = reader.record(row)
    except DataError:
        return None
    return not record.image and len(record.labels) == 2


def _check_offsets(reader: RecordReader, faults: Findings) -> np.ndarray:
    """Returns the first bytes of all records, ascending: int64. Faults: bytes or records not named exactly once."""
    offsets = reader.offsets
    if not (offsets[1:] > offsets[:-1]).all():
        order = offsets.argsort(kind="stable")
        again = np.flatnonzero(offsets[order][1:] == offsets[order][:-1])
        for row, other in zip(order[again + 1].tolist(), order[again].tolist(), strict=True):
            what = f"begins at the same byte as that of key {reader.key(other)}"
            faults.add("index", reader.idx, f"key {reader.key(row)}", what)
        offsets = offsets[order]
    if offsets[0] > 0:
        faults.add("index", reader.idx, "", f"has no line for the bytes 0 .. {offsets[0] - 1} of {reader.rec.name}")
    return offsets


def _check_end(reader: RecordReader, faults: Findings) -> None:
    """Adds one fault for all records past the end of an incomplete file."""
    behind = np.flatnonzero(reader.offsets >= reader.size_bytes)
    if not len(behind):
        return
    first = int(behind[reader.offsets[behind].argmin()])
    whose = f"it and {len(behind) - 1} more begin" if len(behind) > 1 else "it begins"
    what = (
        f"{whose} past the end of the file, which has {reader.size_bytes} bytes. The file is incomplete, or "
        f"{reader.idx.name} is damaged or belongs to another one: copy both again"
    )
    faults.add("cut short", reader.rec, reader.place(first), what)
