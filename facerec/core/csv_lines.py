"""CSV files: the lines of a table that has a header, as people and spreadsheets write it; and a line to write."""

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from facerec.core.errors import DataError
from facerec.core.text_files import open_text

TABLE_SUFFIXES = (".csv", ".tsv")
MOST_SHOWN = 200
"""How many characters of a wrong header a message shows."""
_SEPARATORS = (",", ";", "\t", "|")
_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
OTHER_NAMES = {
    "path": (
        "image_id",
        "image",
        "image_path",
        "img",
        "img_path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "photo",
    ),
    "identity": ("id", "identity_id", "label", "person", "person_id", "subject", "class", "name"),
    "path1": ("image1", "img1", "file1", "filename1", "photo1", "path_1", "a"),
    "path2": ("image2", "img2", "file2", "filename2", "photo2", "path_2", "b"),
    "is_same": ("same", "issame", "match", "is_match", "label", "target"),
    **{f"{axis}{n}": (f"{name}_{axis}",) for n, name in enumerate(_POINTS, start=1) for axis in "xy"},
    "box_x": ("x_1", "left", "bbox_x"),
    "box_y": ("y_1", "top", "bbox_y"),
    "box_width": ("width", "bbox_width"),
    "box_height": ("height", "bbox_height"),
}
"""Other common names of the columns, for the message about a header that lacks one."""


def csv_row(*cells: object) -> bytes:
    """Returns the cells in UTF-8, with commas and the necessary quotes; non-UTF-8 file names keep their bytes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # the writer quotes cells that contain the line ending
    return (line.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "surrogateescape")


def csv_lines(
    path: Path,
    *,
    columns: Sequence[str],
    groups: Sequence[Sequence[str]] = (),
    numbers: Collection[str] = (),
    expected: str = "",
    on_fault: Callable[[int, str], None] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads the cells of some columns, line by line; skips other columns and empty lines.

    The text may be UTF-8 or UTF-16. The separator is the one of comma, semicolon, tab and | that fits the header best,
    or the one in a first line such as `sep=;`. Case and spaces around column names are ignored.

    Args:
        path: the file.
        columns: columns that the header must have.
        groups: groups of columns; the header must have all columns of a group, or none.
        numbers: columns in which a comma is a decimal point, unless the separator is a comma.
        expected: describes the right header, for the message; by default the names of the columns.
        on_fault: called with the number of a malformed line and the reason, instead of raising an error.

    Yields:
        The number of the line, 1 for the first line of the file, and column -> cell, "" if a line is too short.

    Raises:
        DataError: the file cannot be read; a column is missing or occurs twice; a quotation mark is never closed; or a
            cell is longer than the csv module reads. Names the file and the line where the fault begins.
    """
    known = [*columns, *(name for group in groups for name in group)]
    with open_text(path, newline="") as text:
        try:
            separator, header, num_above = _header(text, known)
        except csv.Error as error:
            raise DataError(f"{path}, line 1: {error}") from None
        places = _places(header, columns, groups, path=path, expected=expected or ", ".join(columns))
        has_decimal_commas = set() if separator == "," else set(numbers)
        # Without strict, all lines after an open quotation mark would be one cell.
        reader = csv.reader(text, delimiter=separator, strict=True)
        while True:
            line = num_above + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                what = f"{error}; is a quotation mark missing, or one too many?"
                if on_fault is None:
                    raise DataError(f"{path}, line {line}: {what}") from None
                on_fault(line, what)
                continue
            if cells:
                found = {name: cells[at] if at < len(cells) else "" for name, at in places.items()}
                for name in has_decimal_commas & places.keys():
                    found[name] = found[name].replace(",", ".")
                yield num_above + reader.line_num, found


def _header(text: TextIO, known: Collection[str]) -> tuple[str, list[str], int]:
    """Returns the separator, the cells of the header, and the number of lines up to the header."""
    first, num_lines = text.readline(), 1
    said = re.fullmatch(r'"?sep=(.)"?\s*', first, flags=re.IGNORECASE)
    if said is not None:  # Excel writes this line
        first, num_lines = text.readline(), 2
    found: dict[str, list[str]] = {}
    refusal: csv.Error | None = None
    for separator in [said[1]] if said is not None else _SEPARATORS:
        try:
            found[separator] = next(csv.reader([first], delimiter=separator, strict=True), [])
        except csv.Error as error:
            refusal = refusal or error
    if refusal is not None and not found:
        raise refusal
    names = {*known, *(other for name in known for other in OTHER_NAMES.get(name, ()))}
    best = max(found, key=lambda separator: len(names.intersection(map(_plain, found[separator]))))
    return best, found[best], num_lines


def _plain(name: str) -> str:
    return name.strip().casefold()


def _places(
    header: Sequence[str], columns: Sequence[str], groups: Sequence[Sequence[str]], *, path: Path, expected: str
) -> dict[str, int]:
    """Returns column -> its position in a line. Raises DataError if a column is missing or occurs twice."""
    names = [_plain(name) for name in header]
    wanted = [*columns, *(name for group in groups if set(group).intersection(names) for name in group)]
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"{path}: the header lacks {', '.join(sorted(missing))}; expected {expected}, found "
            f"{', '.join(header)[:MOST_SHOWN] or 'nothing'}{_cause(header, missing)}"
        )
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise DataError(f"{path}: the header has the column {twice[0]} {names.count(twice[0])} times; expected one")
    return {name: names.index(name) for name in wanted}


def _cause(header: Iterable[str], missing: Iterable[str]) -> str:
    names = [name.strip() for name in header]
    if any(re.fullmatch(r"-?\d+([.,]\d+)?", name) for name in names):
        return ". The first line contains numbers: write a line with the names of the columns above it"
    if len(names) == 1 and len(names[0].split()) > 1:
        return ". Separate the columns by commas, not by spaces"
    by_plain = {_plain(name): name for name in names}
    renamed = [
        f"{by_plain[other]} to {name}"
        for name in missing
        if (other := next((other for other in OTHER_NAMES.get(name, ()) if other in by_plain), None))
    ]
    return f". Rename {', '.join(renamed)}" if renamed else ""
