"""The lines of a CSV file that has a header, as a user may have written it."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from facerec.core.errors import DataError

MOST_SHOWN = 200
"""Characters of a header that is not what it should be."""


def csv_lines(text: Iterable[str], *, path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The cells of these columns, line by line, with the number of the line; other columns are passed over.

    Args:
        text: the file's lines, opened with newline="".
        path: the file's name, for messages.
        columns: that the header must have.

    Yields:
        1 for the first line of the file, and column -> cell, "" where a line is too short.

    Raises:
        DataError: a column is missing; a quotation mark is never closed, or a cell has more characters than the csv
            module reads. Names the file and the line where that begins.
    """
    reader = csv.reader(text, strict=True)  # else all lines after an open quotation mark are one cell
    columns, first_line = list(columns), 1
    try:
        header = next(reader, [])
        if missing := set(columns) - set(header):
            raise DataError(
                f"{path}: the header lacks {', '.join(sorted(missing))}; expected {', '.join(columns)}, found "
                f"{', '.join(header)[:MOST_SHOWN] or 'nothing'}"
            )
        places = {column: header.index(column) for column in columns}
        first_line = reader.line_num + 1
        for cells in reader:
            first_line = reader.line_num + 1
            if cells:
                yield reader.line_num, {name: cells[at] if at < len(cells) else "" for name, at in places.items()}
    except csv.Error as error:
        raise DataError(f"{path}, line {first_line}: {error}; is a quotation mark missing, or one too many?") from None
