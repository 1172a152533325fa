"""Reads RecordIO files (`.rec` with `.idx`) of MXNet and InsightFace by record, and writes training sets.

The format, little-endian. A file is a sequence of frames: u32 magic; u32 with a part flag in its top 3 bits and the
length in the other 29; the bytes; zeros up to a multiple of 4. Part flag 0 is a whole record; 1, 2, 3 are the first, a
middle and the last part of a record that was cut wherever the magic stood at a multiple of 4; reading puts it back.
A record: u32 flag, f32 label, u64 id, u64 id2; `flag` more f32 labels when flag > 0; then the encoded image.
"""

import io
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import DataError
from facerec.core.file_kind import stand_in
from facerec.core.progress_bar import progress_bar
from facerec.data.records.record_index import RecordIndex, read_index

MAGIC = struct.pack("<I", 0xCED7230A)
WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
_FRAME = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_MAX_PART_BYTES = (1 << 29) - 1
# Bytes to fetch first if the index does not give a record's size: enough for a whole 112 x 112 JPEG.
_FIRST_READ_BYTES = 16 * 1024
_MOST_FIRST_READ_BYTES = 1 << 20
# The start of a frame as one row of an array, up to the first label of a record with several labels.
_HEAD = np.dtype(
    [("magic", "<u4"), ("part", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2), ("label_0", "<f4")]
)
_HEADS_PER_READ = 8192
# Records that are this close to each other are fetched with the bytes between them.
_NEAR_BYTES = 128 * 1024
# float32, the type of stored labels, represents all whole numbers up to here.
_MAX_LABEL = 1 << 24


class Record(NamedTuple):
    """One unpacked record.

    Attributes:
        labels: float32 (L,); L = 1 for a plain label.
        id, id2: the record's two numbers; InsightFace stores the record's key as `id`.
        image: the encoded image; empty in the records that describe the set.
    """

    labels: np.ndarray
    id: int
    id2: int
    image: bytes


def pack(labels: float | Sequence[float], *, id: int, id2: int = 0, image: bytes = b"") -> bytes:
    """Packs one record, before framing. One number is stored as a plain label, a sequence as an array."""
    if isinstance(labels, int | float):
        return _HEADER.pack(0, labels, id, id2) + image
    return _HEADER.pack(len(labels), 0.0, id, id2) + struct.pack(f"<{len(labels)}f", *labels) + image


def unpack(payload: bytes, *, where: str = "record") -> Record:
    """Inverts `pack`. `where` names the record in errors. Raises DataError if there are too few bytes."""
    flag, label, id, id2 = _HEADER.unpack_from(payload) if len(payload) >= _HEADER.size else (1 << 32, 0.0, 0, 0)
    image_start = _HEADER.size + 4 * flag
    if image_start > len(payload):
        raise DataError(f"{where}: {len(payload)} bytes are too few for a record's header and labels; it is damaged")
    labels = (
        np.frombuffer(payload, dtype="<f4", count=flag, offset=_HEADER.size) if flag else np.array([label], np.float32)
    )
    return Record(labels, id, id2, payload[image_start:])


def frame(payload: bytes) -> bytes:
    """Frames one record: cuts it wherever the magic is at a multiple of 4, as dmlc does."""
    cuts = []
    at = payload.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
        at = payload.find(MAGIC, at + (4 if at % 4 == 0 else 1))
    starts = [0, *(cut + 4 for cut in cuts)]
    ends = [*cuts, len(payload)]
    pieces = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end - start > _MAX_PART_BYTES:
            raise DataError(f"a record of {len(payload)} bytes; RecordIO holds at most {_MAX_PART_BYTES}")
        part = WHOLE if not cuts else FIRST if number == 0 else LAST if number == len(cuts) else MIDDLE
        pieces += [_FRAME.pack(MAGIC, part << 29 | end - start), payload[start:end], bytes(-(end - start) % 4)]
    return b"".join(pieces)


class RecordReader:
    """Random access to the records of a `.rec` through its `.idx`. Rows number the index's keys, in their order.

    Threads may read concurrently, and processes after a fork: every read gives its own position (`pread`). The files
    are opened and the index is read on first use; a pickled reader holds only two paths.

    Args:
        rec, idx: the two files.
        index: used instead of the content of `idx`, which is then not read; the end of `rec` is not checked either. For
            examining a damaged set.

    Raises:
        DataError: on first use, if a file is missing, the index is invalid, or the `.rec` ends before its last record
            ends. Messages name the file, the record's key and its first byte.
    """

    def __init__(self, *, rec: Path, idx: Path, index: RecordIndex | None = None) -> None:
        self.rec = rec
        self.idx = idx
        self._index = index
        self._opened: _Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __len__(self) -> int:
        return len(self._open().entries)

    @property
    def index(self) -> RecordIndex:
        """Returns the content of the `.idx`."""
        return self._open().entries

    def key(self, row: int) -> int:
        """Returns the key of a row; negative rows count from the end."""
        return self._open().entries.key(row)

    @property
    def offsets(self) -> np.ndarray:
        """Returns the first byte of every record, in the order of the keys: int64 (N,)."""
        return self._open().entries.offsets

    @property
    def size_bytes(self) -> int:
        """Returns the size of the `.rec`."""
        return self._open().status.st_size

    @property
    def status(self) -> os.stat_result:
        """Returns the status of the `.rec` when it was opened."""
        return self._open().status

    def where(self, row: int) -> str:
        """Names a record in messages."""
        return f"{self.rec}, {self.place(row)}"

    def place(self, row: int) -> str:
        """Names a record of this file."""
        return f"record {self.key(row)} (byte {self.offsets[row]})"

    def begins_behind_end(self, row: int) -> bool:
        """True if the file ends before the record begins."""
        return int(self.offsets[row]) >= self.size_bytes

    def read(self, row: int) -> bytes:
        """Returns the record's bytes, with its parts joined. Raises DataError if the frame is damaged."""
        return self.read_to_end(row)[0]

    def read_to_end(self, row: int) -> tuple[bytes, int]:
        """Returns the record's bytes, as `read` does, and the first byte after them, where the next record begins."""
        part, data, next_start = self._read_part(
            row, int(self.offsets[row]), first_read_bytes=self._expected_bytes(row)
        )
        if part == WHOLE:
            return data, next_start
        pieces, expected = [data], FIRST
        while part == expected:
            part, data, next_start = self._read_part(row, next_start)
            pieces.append(data)
            expected = MIDDLE
        if part != LAST or len(pieces) == 1:
            raise DataError(f"{self.where(row)}: its parts do not follow each other; {self.rec.name} is damaged")
        return MAGIC.join(pieces), next_start

    def record(self, row: int) -> Record:
        """Returns the record, unpacked."""
        return unpack(self.read(row), where=self.where(row))

    def will_read(self, rows: np.ndarray) -> None:
        """Makes the system fetch records into memory, in the order of the file; does nothing on systems without it.

        Args:
            rows: int64 (R,).
        """
        if not hasattr(os, "posix_fadvise") or not len(rows):
            return
        opened = self._open()
        offsets = opened.entries.offsets
        starts = offsets[rows]
        # If records are in the order of their keys, as in all known files, the next one begins at the end of this one.
        ends = offsets[np.minimum(rows + 1, len(offsets) - 1)]
        ends = np.where(ends > starts, ends, starts + _FIRST_READ_BYTES)
        by_place = np.argsort(starts, kind="stable")
        starts, ends = starts[by_place], np.maximum.accumulate(ends[by_place])
        is_first = np.concatenate([[True], starts[1:] > ends[:-1] + _NEAR_BYTES])
        lasts = np.concatenate([np.flatnonzero(is_first)[1:] - 1, [len(starts) - 1]])
        for start, end in zip(starts[is_first].tolist(), ends[lasts].tolist(), strict=True):
            os.posix_fadvise(opened.file.fileno(), start, end - start, os.POSIX_FADV_WILLNEED)

    def first_labels(self, start_row: int, stop_row: int) -> np.ndarray:
        """Returns the first or only label of every record, read without the images: float32 (stop_row - start_row,).

        It is NaN for a record that is damaged, or that the disk cannot read.
        """
        labels = np.empty(stop_row - start_row, dtype=np.float32)
        with progress_bar(what="reading labels", unit="records", total=len(labels)) as bar:
            for start in range(start_row, stop_row, _HEADS_PER_READ):
                stop = min(start + _HEADS_PER_READ, stop_row)
                labels[start - start_row : stop - start_row] = self._labels_of_block(start, stop)
                bar.update(stop - start)
        return labels

    def _labels_of_block(self, start: int, stop: int) -> np.ndarray:
        opened = self._open()
        fd, offsets = opened.file.fileno(), opened.entries.offsets[start:stop]
        if hasattr(os, "posix_fadvise"):
            # On a cold disk one long read is far faster than thousands of short ones.
            span = int(offsets.max() - offsets.min()) + _HEAD.itemsize
            os.posix_fadvise(fd, int(offsets.min()), span, os.POSIX_FADV_WILLNEED)
        heads = np.frombuffer(_heads_at(fd, offsets.tolist()), dtype=_HEAD)
        labels = np.where(heads["flag"] > 0, heads["label_0"], heads["label"])
        labels[heads["magic"] != np.frombuffer(MAGIC, dtype="<u4")[0]] = np.nan
        part_bytes = (heads["part"] & _MAX_PART_BYTES).astype(np.int64)
        # A header that the magic cuts, or with a wrong size, goes the slow way, which reads or refuses it.
        for i in np.flatnonzero(part_bytes < _HEADER.size + 4 * heads["flag"].astype(np.int64)):
            try:
                labels[i] = self.record(start + int(i)).labels[0]
            except DataError:
                labels[i] = np.nan
        return labels

    def _expected_bytes(self, row: int) -> int:
        """Returns the size of a record with its frame, if the record of the next row follows it."""
        offsets = self._open().entries.offsets
        row %= len(offsets)
        size = int(offsets[row + 1] - offsets[row]) if row + 1 < len(offsets) else 0
        return size if _FRAME.size <= size <= _MOST_FIRST_READ_BYTES else _FIRST_READ_BYTES

    def _read_part(self, row: int, start: int, *, first_read_bytes: int = _FIRST_READ_BYTES) -> tuple[int, bytes, int]:
        """Returns (part flag, bytes, first byte after the part) of the frame that begins at byte `start`."""
        opened = self._open()
        head = self._pread(first_read_bytes, start, row)
        if len(head) < _FRAME.size:
            raise DataError(f"{self.where(row)}: {self._cut_short(start + _FRAME.size)}")
        magic, part_and_length = _FRAME.unpack_from(head)
        if magic != MAGIC:
            raise DataError(self._no_magic(row, start))
        part, length = part_and_length >> 29, part_and_length & _MAX_PART_BYTES
        end = start + _FRAME.size + length
        data = head[_FRAME.size : _FRAME.size + length]
        if len(data) < length and end <= opened.status.st_size:
            data += self._pread(length - len(data), start + len(head), row)
        if len(data) < length:
            raise DataError(f"{self.where(row)}: {self._cut_short(end)}")
        return part, data, end + -length % 4

    def _pread(self, size: int, start: int, row: int) -> bytes:
        try:
            return os.pread(self._open().file.fileno(), size, start)
        except OSError as error:  # an error of the disk, or an impossible position
            raise DataError(f"{self.where(row)}: byte {start} cannot be read ({error.strerror})") from None

    def _cut_short(self, needed_bytes: int) -> str:
        return (
            f"it ends at byte {needed_bytes}, but the file has {self.size_bytes} bytes. The file is incomplete or "
            f"damaged, or {self.idx.name} belongs to another one: copy both again"
        )

    def _no_magic(self, row: int, start: int) -> str:
        return (
            f"{self.where(row)}: no record begins at byte {start}. The file is damaged, or {self.idx.name} belongs to "
            "another one: copy both again"
        )

    def _open(self) -> "_Opened":
        if self._opened is None:
            if self._index is None:
                for path in (self.rec, self.idx):
                    if (fault := stand_in(path)) is not None:
                        raise DataError(fault)
            # Two threads may both come here: the files of the last one stay, and the other's equal files are closed.
            index = read_index(self.idx) if self._index is None else self._index
            try:
                file = open(self.rec, "rb", buffering=0)  # noqa: SIM115 (kept open for pread)
            except OSError as error:
                raise DataError(f"{self.rec}: cannot be opened ({error.strerror})") from None
            opened = _Opened(file, index, os.fstat(file.fileno()))
            if self._index is not None:
                self._opened = opened
                return opened
            last_start = int(index.offsets[index.last_row])
            # An offset above all possible sizes, which the system would refuse, is past the end too.
            head = os.pread(file.fileno(), _FRAME.size, min(last_start, opened.status.st_size))
            length = _FRAME.unpack(head)[1] & _MAX_PART_BYTES if len(head) == _FRAME.size else 0
            if last_start + _FRAME.size + length > opened.status.st_size:
                raise DataError(
                    f"{self.rec}: the file has {opened.status.st_size} bytes, but its last record, "
                    f"{index.key(index.last_row)}, begins at byte {last_start} and ends later. The file is incomplete, "
                    f"or {self.idx.name} belongs to another one: copy both again"
                )
            self._opened = opened
        return self._opened


class _Opened(NamedTuple):
    file: io.FileIO
    entries: RecordIndex
    status: os.stat_result


def _heads_at(fd: int, offsets: list[int]) -> bytes:
    """Returns the first bytes of records; zeros if they cannot be read."""
    size = _HEAD.itemsize
    try:
        return b"".join([os.pread(fd, size, offset).ljust(size, b"\0") for offset in offsets])
    except OSError:  # halves the range down to the place that the disk cannot read
        half = len(offsets) // 2
        return _heads_at(fd, offsets[:half]) + _heads_at(fd, offsets[half:]) if half else bytes(size)


def write_record_set(
    root: Path,
    images_by_identity: Iterable[Iterable[bytes]],
    *,
    height_px: int = 112,
    width_px: int = 112,
    layout: str = "insightface",
) -> None:
    """Writes `train.rec`, `train.idx` and `property`, holding one image at a time.

    insightface: record 0 has the labels (first key of an identity, one past the last); images follow with keys from 1,
    then one record per identity with the range of its keys. im2rec: images only, with keys from 0, as NVIDIA DALI
    needs. `train.rec` is complete or absent; it appears last.

    Args:
        root: the folder; made if absent.
        images_by_identity: the encoded images of every identity, in the order of the labels.
        height_px, width_px: written to `property`; the images are not checked.
        layout: "insightface" or "im2rec".

    Raises:
        DataError: `train.rec` already exists, there is no identity, or an identity has no image.
    """
    root.mkdir(parents=True, exist_ok=True)
    if (root / "train.rec").exists():
        raise DataError(f"{root / 'train.rec'} already exists; delete it, or write to another folder")
    with (
        atomic_file(root / "train.rec") as rec,
        atomic_file(root / "train.idx") as idx,
        atomic_file(root / "property") as properties,
    ):
        records = _Appender(rec, idx)
        if layout == "insightface":
            records.append(pack((0.0, 0.0), id=0, id2=1))  # overwritten below, when the numbers are known
        first_keys = []
        for label, images in enumerate(images_by_identity):
            if label >= _MAX_LABEL:
                raise DataError(f"more than {_MAX_LABEL} identities; labels are float32 and cannot count further")
            first_keys.append(records.next_key)
            for image in images:
                records.append(pack(float(label), id=records.next_key, image=bytes(image)))
            if records.next_key == first_keys[-1]:
                raise DataError(f"{root}: identity {label} has no image; leave it out")
        if not first_keys:
            raise DataError(f"{root}: no identity to write; expected at least one with one image")
        if layout == "insightface":
            id_start = records.next_key
            for first, stop in zip(first_keys, [*first_keys[1:], id_start], strict=True):
                records.append(pack((float(first), float(stop)), id=records.next_key))
            rec.seek(0)
            rec.write(frame(pack((float(id_start), float(records.next_key)), id=0, id2=1)))
        properties.write(f"{len(first_keys)},{height_px},{width_px}\n".encode())


class _Appender:
    """Appends records with the keys 0, 1, 2, … to a `.rec` and its `.idx`."""

    def __init__(self, rec: BinaryIO, idx: BinaryIO) -> None:
        self.next_key = 0
        self._rec = rec
        self._idx = idx
        self._offset = 0

    def append(self, payload: bytes) -> None:
        self._idx.write(b"%d\t%d\n" % (self.next_key, self._offset))
        self._offset += self._rec.write(frame(payload))
        self.next_key += 1
