"""Lines of CSV files, as spreadsheets and people write them."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.core.csv_lines import csv_lines
from facerec.core.csv_row import csv_row
from facerec.core.errors import DataError

PATH = Path("list.csv")


def lines_of(text: str, columns: tuple[str, ...] = ("a", "b")) -> list[tuple[int, dict[str, str]]]:
    return list(csv_lines(io.StringIO(text, newline=""), path=PATH, columns=columns))


def test_columns_are_found_by_name_and_lines_by_number():
    text = 'b,x,a\n1,2,3\n\n"two\nlines",2\n4,5,6,7\n'
    assert lines_of(text) == [
        (2, {"a": "3", "b": "1"}), (5, {"a": "", "b": "two\nlines"}), (6, {"a": "6", "b": "4"}),
    ]  # fmt: skip


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]))] * 2), max_size=5))
def test_what_is_written_is_read(rows):
    text = b"".join([csv_row("a", "b"), *(csv_row(*row) for row in rows)]).decode()
    read = csv_lines(io.StringIO(text, newline=""), path=PATH, columns=("a", "b"))
    assert [tuple(cells.values()) for _, cells in read] == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "list.csv: the header lacks a, b; expected a, b, found nothing"),
        ("a,c\n", "list.csv: the header lacks b; expected a, b, found a, c"),
        ("x" * 1000, "found x{200}$"),
        ("a,b\n1,2\n" + "x" * 131073 + ",2\n", "list.csv, line 3: field larger than field limit"),
        ("x" * 131073 + "\n", "list.csv, line 1: field larger"),
        ('a,b\n1,2\n3,"4\n5,6\n7,8\n', "list.csv, line 3: unexpected end of data; is a quotation mark missing"),
        ('a,b\n1,2\n3,"' + "5,6\n" * 40000, "list.csv, line 3: field larger than field limit"),
        ('a,b\n"Jo" Doe,2\n', "list.csv, line 2: .* one too many"),
    ],
)
def test_what_is_no_such_table_is_refused_by_name_and_line(text, says):
    with pytest.raises(DataError, match=says):
        lines_of(text)
