"""Record files of InsightFace and im2rec as a source."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.photo_reader import decode_rgb
from facerec.core.cache import array_path, kept_array, mapped_array
from facerec.core.crop_size import check_size
from facerec.core.errors import DataError
from facerec.core.litter import files_with_suffix
from facerec.core.source import Source
from facerec.core.typed_text import override_of, typed_command
from facerec.data.records.record_index import is_large
from facerec.data.records.record_layout import (
    image_rows,
    read_property,
    settle_lost_labels,
    settled_size,
    size_of_images,
    wrong_size,
)
from facerec.data.records.recordio import RecordReader, unpack
from facerec.data.sources.identity_names import NAMES_FILE, read_identity_names

_MAX_NAMED = 10


class RecordSource(Source):
    """`train.rec`, `train.idx` and `property` in one folder: InsightFace's layout, or that of MXNet's im2rec.

    InsightFace: record 0 describes the set, images have the keys from 1, records about identities follow.
    im2rec: every record is an image, in the order of its key; `property` may be absent.

    Args:
        root: the folder. Nothing is opened before first use. A pickled source holds only the path and the size.
        size_px: height and width that the crops must have; None: the size in `property`, else 112 x 112.
        renumber: number the identities from 0, in the order of their labels, if the labels do not begin at 0, have gaps
            or contradict `property`. The name of an identity without a name is then its old label.

    Raises:
        DataError: on first use, if files are missing or damaged, or the size contradicts `property`; without `renumber`
            also if labels do not begin at 0, have gaps or contradict `property`.
    """

    def __init__(self, *, root: str, size_px: tuple[int, int] | None = None, renumber: bool = False) -> None:
        self.root = Path(root).expanduser()
        self.asked_size_px = size_px
        self.renumber = renumber
        self._reader = RecordReader(rec=self.root / "train.rec", idx=self.root / "train.idx")
        self._layout: _Layout | None = None
        self._labels: np.ndarray | None = None
        self._old_labels: np.ndarray | None = None  # of the identities, if they were renumbered
        self._num_classes: int | None = None
        self._names: list[str] | None = None
        self._without_names = ""  # the reason
        self._damaged: list[int] = []  # rows of records that were found damaged while labels were read

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_layout": None, "_labels": None, "_num_classes": None, "_names": None}

    def __len__(self) -> int:
        return self._rows().num_images

    @property
    def num_classes(self) -> int:
        """Returns the number of identities."""
        if self._num_classes is None:
            self._num_classes = int(self.labels.max()) + 1
        return self._num_classes

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width of every crop."""
        return self._rows().size_px

    @property
    def has_names(self) -> bool:
        """True if the folder has an `identities.csv` that fits, as `facerec pack` writes it."""
        return bool(self._read_names())

    @property
    def identities(self) -> list[str]:
        """Returns their names, in the order of the labels; if there are none, their numbers in the file."""
        if names := self._read_names():
            return names
        return [str(label) for label in (range(self.num_classes) if self._old_labels is None else self._old_labels)]

    @property
    def labels(self) -> np.ndarray:
        """Returns the labels, int64 (N,). They are read once, from the headers of all records, and mapped afterwards.

        The label of an unreadable record comes from its identity's record, in InsightFace's layout.
        """
        if self._labels is None:
            self._labels = self._read_labels()
        return self._labels

    def image(self, index: int) -> np.ndarray:
        """Returns uint8 (H, W, 3), RGB. Raises DataError, naming file and record, if it is not a crop of this size."""
        return self._checked_crop(index)[1]

    def encoded(self, index: int) -> bytes:
        """Returns the record's image unchanged, after checking that it is a crop. Raises as `image`."""
        return self._checked_crop(index)[0]

    def will_read(self, indices: np.ndarray) -> None:
        """Makes the system fetch samples, int64 (n,), into memory before they are needed."""
        self._reader.will_read(self._rows().first_image + indices)

    def name(self, index: int) -> str:
        """Returns file, key and first byte of a sample's record."""
        rows = self._rows()
        return self._reader.where(rows.first_image + range(rows.num_images)[index])

    def benchmarks(self) -> list[Path]:
        """Returns the verification files in the folder, by name."""
        return files_with_suffix(self.root, ".bin")

    def notes(self) -> list[str]:
        """Returns notes for the user: a wrong `property`, records with unreadable headers, names that do not fit."""
        notes = []
        rows = self._rows()
        names = self._read_names()
        if self._old_labels is not None:
            first, last = int(self._old_labels[0]), int(self._old_labels[-1])
            notes.append(
                f"{self._reader.rec}: its labels, {first} to {last}, are renumbered, 0 to {self.num_classes - 1}"
            )
        if rows.described and rows.described[1:] != rows.size_px:
            notes.append(f"{self.root / 'property'}: {wrong_size(rows.described, rows.size_px)}")
        if not names and (self.root / NAMES_FILE).exists():
            notes.append(f"{self._without_names}; the names of the identities are their numbers")
        if self._damaged:
            rest = f", and {len(self._damaged) - 1} more" if len(self._damaged) > 1 else ""
            notes.append(
                f"{self._reader.where(self._damaged[0])}{rest}: cannot be read; an identity's record gives the label. "
                "facerec inspect gives details, on_corrupt=skip continues without it"
            )
        return notes

    def fingerprint(self) -> str:
        """Returns SHA-256 over the index, the labels, the size of `train.rec` and `property`; not over the pixels."""
        digest = hashlib.sha256(self._reader.offsets.data)
        digest.update(self.labels.data)
        digest.update(f"{self._reader.size_bytes} {self._rows().described}".encode())
        return digest.hexdigest()

    def _checked_crop(self, index: int) -> tuple[bytes, np.ndarray]:
        rows = self._rows()
        row = rows.first_image + range(rows.num_images)[index]
        where = self._reader.where(row)
        content = unpack(self._reader.read(row), where=where).image
        return content, check_size(decode_rgb(content, where=where), where=where, size_px=rows.size_px)

    def _rows(self) -> "_Layout":
        if self._layout is None:
            described = read_property(self.root / "property")
            first_image, num_images = image_rows(self._reader)
            found_px = None
            if described:
                found_px = size_of_images(
                    self._reader, first_image=first_image, num_images=num_images, stated_px=described[1:]
                )
            size_px = settled_size(self.root / "property", described, self.asked_size_px, found_px=found_px)
            self._layout = _Layout(first_image, num_images, size_px, described)
        return self._layout

    def _read_names(self) -> list[str]:
        """Returns the names; empty if there are none that fit."""
        if self._names is None:
            try:
                self._names = read_identity_names(self.root / NAMES_FILE, np.bincount(self.labels))
            except DataError as error:
                self._names, self._without_names = [], str(error)
        return self._names

    def _read_labels(self) -> np.ndarray:
        rows, idx = self._rows(), self._reader.idx
        status = idx.stat()
        kept_at = None
        if is_large(status):
            files = [(self._reader.rec, self._reader.status), (idx, status)]
            kept_at = array_path("labels", files, also=str(rows.described))
            mapped = mapped_array(kept_at)
            if mapped is not None and len(mapped) == rows.num_images:
                return mapped
        values = self._reader.first_labels(rows.first_image, rows.first_image + rows.num_images)
        self._damaged = settle_lost_labels(self._reader, values, first_image=rows.first_image)
        labels = self._checked(values)
        is_whole = not self._damaged and self._old_labels is None
        kept = None if kept_at is None or not is_whole else kept_array(kept_at, labels)
        return labels if kept is None else kept

    def _checked(self, values: np.ndarray) -> np.ndarray:
        """Returns the labels as int64: 0 .. num_classes - 1 without a gap, as in `property`, or renumbered."""
        first = self._rows().first_image
        unfit = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & (values < 2**53)))
        if len(unfit):
            raise DataError(
                f"{self._reader.where(first + unfit[0])}: label {values[unfit[0]]} is not an identity number"
            )
        labels = values.astype(np.int64)
        described = self._rows().described
        if fault := self._fault_of(labels, described[0] if described else int(labels.max()) + 1):
            if not self.renumber:
                out = override_of("out", f"{self.root}_renumbered")
                command = typed_command(["facerec", "pack", override_of("data.root", self.root), out])
                raise DataError(f"{fault}. {command} writes the same images with renumbered identities")
            self._old_labels, labels = np.unique(labels, return_inverse=True)
        return labels

    def _fault_of(self, labels: np.ndarray, num_classes: int) -> str:
        """Returns the fault of labels, int64 (N,), that should be 0 .. num_classes - 1; "" if there is none."""
        rec, expected = self._reader.rec, f"expected 0 .. {num_classes - 1} without a gap"
        if (lowest := int(labels.min())) > 0:
            return f"{rec}: labels begin at {lowest}; {expected}"
        if (highest := int(labels.max())) >= num_classes:
            row = self._rows().first_image + int(labels.argmax())
            property_says = f"{self.root / 'property'} says {num_classes} identities"
            return f"{self._reader.where(row)}: label {highest}, but {property_says}"
        # N images leave a gap within the first N + 1 labels, so a damaged, huge label costs no memory here.
        limit = min(num_classes, len(labels) + _MAX_NAMED + 1)
        missing = np.flatnonzero(np.bincount(labels[labels < limit], minlength=limit) == 0)
        if not len(missing):
            return ""
        named = ", ".join(str(label) for label in missing[:_MAX_NAMED]) + (", …" if len(missing) > _MAX_NAMED else "")
        return f"{rec}: no image has the label {named}; {expected}"


@dataclass(frozen=True)
class _Layout:
    first_image: int  # row of the first image record
    num_images: int
    size_px: tuple[int, int]  # height, width
    described: tuple[int, int, int] | None  # property: identities, height, width
