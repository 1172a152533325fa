"""One line of a CSV file."""

import csv
import io


def csv_row(*cells: object) -> bytes:
    """The cells in UTF-8, with commas, quoted where they must be; names of files that are no UTF-8 stay as they are."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # what it ends lines with it quotes in cells
    return (line.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "surrogateescape")
