"""Opens text files that editors and spreadsheets of any system have saved."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from facerec.core.errors import DataError

_HEAD_BYTES = 4096
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@contextmanager
def open_text(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Opens a text file in UTF-8, UTF-16 or UTF-32, recognised by its byte-order mark or its zeros.

    Bytes that are not UTF-8 become surrogates, as in file names. The byte-order mark is removed.

    Args:
        path: the file.
        newline: see `open`; "" for the csv module.
        newline: as `open` takes it; "" for the csv module.

    Raises:
        DataError: the file cannot be read, or is not text.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head.startswith(b"PK\x03\x04"):
            raise DataError(f"{path}: is a spreadsheet or a zip file, not text; save it as CSV (UTF-8)")
        encoding = _encoding(head)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        if errors == "replace":
            codecs.getincrementaldecoder(encoding)().decode(head, final=len(head) < _HEAD_BYTES)
        with path.open(newline=newline, encoding=encoding, errors=errors) as lines:
            yield lines
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeError:
        raise DataError(f"{path}: is not a text file; save it as CSV (UTF-8)") from None


def _encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # UTF-16 without a mark: every second byte of most letters, digits and commas is zero.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) / 4 and min(even, odd) == 0:
        return "utf-16-be" if even else "utf-16-le"
    return "utf-8-sig"
