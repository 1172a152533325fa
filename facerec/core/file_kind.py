"""Detects what a file really is from its first bytes, because a user's file often differs from its name."""

import json
import re
import struct
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

_START_BYTES = 1024
_LEGACY_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the magic number of torch's format before 1.6
_MOST_HEADER_BYTES = 100_000_000  # the limit of safetensors' own reader
_MOST_FIELDS = 10_000  # at the top level of an ONNX file: it has about ten, and one per operator set and function


class FileKind(Enum):
    """The kinds of files that are distinguished; the value names a kind in messages."""

    LFS_POINTER = "a Git LFS pointer"
    HTML = "an HTML page"
    XML = "an XML page"
    EMPTY = "an empty file"
    TORCH = "a torch file"
    TORCH_SCRIPT = "a TorchScript archive"
    ONNX = "an ONNX network"
    SAFETENSORS = "a safetensors file"
    ZIP = "a zip archive"
    PICKLE = "a pickle"
    RECORDS = "a record file"
    NUMPY = "a NumPy array"
    HDF5 = "an HDF5 file"
    IMAGE = "an image"
    TAR = "a tar archive"
    GZIP = "a gzip archive"
    ARCHIVE = "a compressed archive"
    PDF = "a PDF document"
    JSON = "a JSON file"
    TEXT = "a text file"
    UNKNOWN = "a file of an unknown format"


_MAGIC = (
    (b"version https://git-lfs", FileKind.LFS_POINTER),
    (b"\xff\xd8\xff", FileKind.IMAGE),
    (b"\x89PNG", FileKind.IMAGE),
    (b"GIF8", FileKind.IMAGE),
    (b"BM", FileKind.IMAGE),
    (b"II*\0", FileKind.IMAGE),
    (b"MM\0*", FileKind.IMAGE),
    (b"\x0a\x23\xd7\xce", FileKind.RECORDS),
    (b"\x93NUMPY", FileKind.NUMPY),
    (b"\x89HDF", FileKind.HDF5),
    (b"\x1f\x8b", FileKind.GZIP),
    (b"7z\xbc\xaf\x27\x1c", FileKind.ARCHIVE),
    (b"\xfd7zXZ", FileKind.ARCHIVE),
    (b"\x28\xb5\x2f\xfd", FileKind.ARCHIVE),
    (b"BZh", FileKind.ARCHIVE),
    (b"Rar!", FileKind.ARCHIVE),
    (b"%PDF", FileKind.PDF),
)
_PAGE = re.compile(rb"<!doctype html|<html|<head|<body|<script|<title", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FileLook:
    """The result of the first look into a file.

    Attributes:
        path: the file.
        kind: what it is.
        size_bytes: its size.
        needed_bytes: the minimal size according to the file's content; larger than `size_bytes` if the file ends
            early. None if the format does not store it.
        ends_early: True if the file certainly lacks its end.
    """

    path: Path
    kind: FileKind
    size_bytes: int
    needed_bytes: int | None = None
    ends_early: bool = False

    def stand_in(self) -> str | None:
        """Returns one line if a Git LFS pointer or a web page is in the place of the file; else None."""
        if self.kind is FileKind.LFS_POINTER:
            return (
                f"{self.path} is a Git LFS pointer, not the file itself: install git-lfs and run git lfs pull in the "
                "clone that it comes from, or download the file"
            )
        if self.kind in (FileKind.HTML, FileKind.XML):
            return (
                f"{self.path} is {self.kind.value}, not the file that its name promises: the download saved a sign-in, "
                "a confirmation or an error page. Open the link in a browser, and download the file itself"
            )
        return None

    def not_itself(self) -> str | None:
        """Returns one line for a file that no reader can use, whatever it should be; else None.

        Such files are a Git LFS pointer, a web page, an empty file, and an incomplete download.
        """
        if (fault := self.stand_in()) is not None:
            return fault
        if self.kind is FileKind.EMPTY:
            return f"{self.path} is empty (0 bytes): download or copy it again"
        if self.ends_early:
            of = "" if self.needed_bytes is None else f" of at least {self.needed_bytes:,}"
            return (
                f"{self.path} ends early: it is {self.kind.value}, and has only {self.size_bytes:,} bytes{of}. A "
                "download or copy was interrupted: get the file again"
            )
        return None


def look_at(path: Path) -> FileLook:
    """Looks into a file without reading all of it. Raises OSError if it cannot be read."""
    size_bytes = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(_START_BYTES)
        kind = kind_of_bytes(start)
        needed_bytes = None
        ends_early = False
        if kind is FileKind.SAFETENSORS:
            needed_bytes = _end_of_safetensors(file, size_bytes)
        elif kind is FileKind.ONNX:
            needed_bytes = _end_of_onnx(file, size_bytes)
        elif start.startswith(b"PK"):
            kind, ends_early = _zip(file, kind)
        ends_early = ends_early or (needed_bytes is not None and needed_bytes > size_bytes)
    return FileLook(path=path, kind=kind, size_bytes=size_bytes, needed_bytes=needed_bytes, ends_early=ends_early)


def not_itself(path: Path) -> str | None:
    """Returns `FileLook.not_itself` of a file; None also if the file cannot be read."""
    try:
        return look_at(path).not_itself() if path.is_file() else None
    except OSError:
        return None


def stand_in(path: Path) -> str | None:
    """Returns `FileLook.stand_in` of a file; None also if the file cannot be read."""
    try:
        return look_at(path).stand_in() if path.is_file() else None
    except OSError:
        return None


def kind_of_bytes(start: bytes) -> FileKind:
    """Returns the kind of a file by its first bytes, or by all of them. `look_at` refines the kind of a zip archive."""
    if not start:
        return FileKind.EMPTY
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return FileKind.TORCH if re.match(rb"[^/]+/(data\.pkl|\.format_version)", start[30:]) else FileKind.ZIP
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return FileKind.IMAGE
    if start[:1] == b"\x80" and b"\x02" <= start[1:2] <= b"\x05":
        return FileKind.TORCH if start[2:14] == _LEGACY_TORCH else FileKind.PICKLE
    if len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= _MOST_HEADER_BYTES:
        return FileKind.SAFETENSORS
    if _begins_as_onnx(start):
        return FileKind.ONNX
    if start[257:262] == b"ustar":
        return FileKind.TAR
    return _kind_of_text(start)


def _kind_of_text(start: bytes) -> FileKind:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        is_page = _PAGE.search(text) is not None
        return FileKind.HTML if is_page else FileKind.XML if text[:5].lower() == b"<?xml" else FileKind.TEXT
    if b"\0" in text or any(byte < 9 for byte in text):
        return FileKind.UNKNOWN
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(text) - 4:  # nearer to the end, the last character is only cut
            return FileKind.UNKNOWN
    return FileKind.JSON if text[:1] in (b"{", b"[") else FileKind.TEXT


def _begins_as_onnx(start: bytes) -> bool:
    """True for a ModelProto: it starts with ir_version (field 1), then the producer, the graph or the operator set."""
    return len(start) >= 3 and start[0] == 0x08 and 0 < start[1] < 0x80 and start[2] in (0x12, 0x3A, 0x42)


def _end_of_safetensors(file: BinaryIO, size_bytes: int) -> int | None:
    """Returns the minimal size of the file, by its format: u64 length of the header, JSON header, tensors."""
    file.seek(0)
    length = struct.unpack("<Q", file.read(8))[0]
    if 8 + length > size_bytes:
        return 8 + length
    try:
        header = json.loads(file.read(length))
        return 8 + length + max((int(entry["data_offsets"][1]) for key, entry in header.items() if key[:2] != "__"))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        return None


def _end_of_onnx(file: BinaryIO, size_bytes: int) -> int | None:
    """Returns the end of the last top-level field of the message, by protobuf's wire format."""
    end = 0
    for _ in range(_MOST_FIELDS):
        if end >= size_bytes:
            return end
        file.seek(end)
        head = file.read(20)
        tag, at = _varint(head, 0)
        value, at = _varint(head, at)
        if tag is None or value is None or tag & 7 not in (0, 2):
            return None
        end += at + (value if tag & 7 == 2 else 0)
    return None


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for number, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, at + number + 1
    return None, at


def _zip(file: BinaryIO, kind: FileKind) -> tuple[FileKind, bool]:
    """Returns the kind of an archive, and whether it lacks the list of its members, which is stored at its end."""
    file.seek(0)
    try:
        if not zipfile.is_zipfile(file):
            return kind, True
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return kind, False  # a damaged list
    if any(re.fullmatch(r"[^/]+/constants\.pkl", name) for name in names):
        return FileKind.TORCH_SCRIPT, False
    return (FileKind.TORCH if any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in names) else kind), False
