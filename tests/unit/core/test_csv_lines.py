"""Lines of CSV files, as spreadsheets and people write them."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.core.csv_lines import csv_lines, csv_row
from facerec.core.errors import DataError

POINTS = ("x1", "y1")
TABLE = "path,identity,x1,y1\nÄnn/1.jpg,Änn,104.5,111\nBob/1.jpg,Bob,-3,7\n"
ROWS = [["Änn/1.jpg", "Änn", "104.5", "111"], ["Bob/1.jpg", "Bob", "-3", "7"]]


@pytest.fixture
def lines_of(tmp_path) -> Callable[..., list[tuple[int, dict[str, str]]]]:
    def read(
        content: str | bytes, columns: Sequence[str] = ("a", "b"), **more: Any
    ) -> list[tuple[int, dict[str, str]]]:
        (tmp_path / "list.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        return list(csv_lines(tmp_path / "list.csv", columns=columns, **more))

    return read


def test_columns_are_found_by_name_and_lines_by_number(lines_of):
    text = 'b,x,a\n1,2,3\n\n"two\nlines",2\n4,5,6,7\n'
    assert lines_of(text) == [
        (2, {"a": "3", "b": "1"}), (5, {"a": "", "b": "two\nlines"}), (6, {"a": "6", "b": "4"}),
    ]  # fmt: skip


@given(rows=st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]))] * 2), max_size=5))
def test_what_is_written_is_read(rows, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(b"".join([csv_row("a", "b"), *(csv_row(*row) for row in rows)]))
    read = csv_lines(path, columns=("a", "b"))
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
def test_what_is_no_such_table_is_refused_by_name_and_line(text, says, lines_of):
    with pytest.raises(DataError, match=says):
        lines_of(text)


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig").replace(b"\n", b"\r\n"),
        TABLE.encode("utf-16"),
        b"\xfe\xff" + TABLE.encode("utf-16-be"),
        TABLE.encode("utf-16-le"),
        TABLE.encode("utf-16-be"),
        TABLE.encode("utf-32"),
        TABLE.replace(",", ";").replace("104.5", "104,5").encode("utf-8-sig"),  # as a German spreadsheet saves it
        TABLE.replace(",", "\t").replace("104.5", "104,5").encode("utf-16"),
        ("sep=;\r\n" + TABLE.replace(",", ";")).encode(),
        TABLE.replace(",", "|").encode(),
        TABLE.replace("path,identity,x1", " Path ,IDENTITY, X1").encode(),
    ],
)
def test_table_is_read_as_meant_whatever_saved_it(content, lines_of):
    found = lines_of(content, ("path", "identity"), groups=[POINTS], numbers=POINTS)
    assert [list(cells.values()) for _, cells in found] == ROWS
    assert [line for line, _ in found] == ([3, 4] if content.startswith(b"sep") else [2, 3])


def test_comma_in_a_name_is_no_decimal_point(lines_of):
    (line,) = lines_of(
        "path;identity;x1;y1\na, 1.jpg;Smith, J;1,5;2\n", ("path", "identity"), groups=[POINTS], numbers=POINTS
    )
    assert line[1] == {"path": "a, 1.jpg", "identity": "Smith, J", "x1": "1.5", "y1": "2"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image_id,label,x\n", "the header lacks identity, path; .*Rename image_id to path, label to identity$"),
        ("Filename;identity\n", r"lacks path; .*found Filename, identity\. Rename Filename to path$"),
        ("path,identity,lefteye_x,lefteye_y,x1\n", "lacks y1; .*Rename lefteye_y to y1$"),
        (
            "a/1.jpg,Ann,104,111\n",
            "lacks identity, path; .*The first line contains numbers: write a line with the names",
        ),
        ("path identity x1 y1\n", "lacks identity, path; .*Separate the columns by commas, not by spaces"),
        ("path,identity,x1,y1,x1\n", "the header has the column x1 2 times; expected one"),
        (b"PK\x03\x04...", r"list\.csv: is a spreadsheet or a zip file, not text; save it as CSV"),
        (b"\xff\xfe\x00\xd8a\x00", r"list\.csv: is not a text file"),
    ],
)
def test_header_of_another_kind_is_refused_with_the_cause(text, says, lines_of):
    with pytest.raises(DataError, match=says):
        lines_of(text, ("path", "identity"), groups=[POINTS])
