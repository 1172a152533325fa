"""Tables of photos: what they give, and that a line that does not fit is named."""

from pathlib import Path

import numpy as np
import pytest

from facerec.align.photo_table import LANDMARK_COLUMNS, read_photo_table
from facerec.core.errors import DataError

HEADER = ",".join(("path", "identity", *LANDMARK_COLUMNS)) + "\n"


def table(folder: Path, text: str, name: str = "photos.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_identities_are_numbered_by_their_sorted_names(tmp_path):
    text = 'identity,note,path\nZoë,,z/1.jpg\n"Bob, Jr.",x,"b, 1.jpg"\nZoë,,z/2.jpg\n'
    found = read_photo_table(table(tmp_path, text))
    assert found.identities == ["Bob, Jr.", "Zoë"]
    assert found.labels.dtype == np.int64 and found.labels.tolist() == [1, 0, 1]
    assert list(found.paths) == ["z/1.jpg", "b, 1.jpg", "z/2.jpg"]
    assert found.landmarks is None


def test_landmarks_are_points_in_the_order_of_the_columns(tmp_path):
    numbers = [1.5, 2, 3, 4, 5, 6, 7, 8, 9, -10.25]
    tabs = (HEADER + "a.jpg,Ann," + ",".join(map(str, numbers)) + "\n").replace(",", "\t")
    for name, text in {"photos.TSV": tabs, "marked.tsv": "\ufeff" + tabs.replace("\n", "\r\n")}.items():
        found = read_photo_table(table(tmp_path, text, name))
        assert found.landmarks is not None and found.landmarks.shape == (1, 5, 2)
        assert found.landmarks.reshape(-1).tolist() == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"photos\.csv: the header lacks identity, path; .*found nothing"),
        ("path;name\na;b\n", "the header lacks identity; .*found path, name. Rename name to identity"),
        ("path,identity,x1,y1\n", "lacks x2, x3, x4, x5, y2, y3, y4, y5"),
        ("path,identity\n", "no line after its header"),
        ("path,identity\na.jpg,Ann\nb.jpg,\n", r"line 3: expected a path and an identity, found 'b\.jpg' and ''"),
        ("path,identity\na.jpg\n", r"line 2: expected a path and an identity, found 'a\.jpg' and ''"),
        (HEADER + "a.jpg,Ann,1,2,3,4,five,6,7,8,9,10\n", r"line 2: expected ten numbers .*'five'"),
        (HEADER + "a.jpg,Ann,1,2,3,4,nan,6,7,8,9,10\n", r"line 2: expected ten numbers .*'nan'"),
        (HEADER + "a.jpg,Ann,1,2,3,4,5,6,7,8,9\n", r"line 2: expected ten numbers .*'9', ''"),
    ],
)
def test_what_does_not_fit_is_named(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_photo_table(table(tmp_path, text))


def test_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: cannot be read \(No such file"):
        read_photo_table(tmp_path / "nowhere.csv")


def test_quotation_mark_that_is_never_closed_is_an_error_and_swallows_no_line(tmp_path):
    (tmp_path / "a.csv").write_text('path,identity\n1.jpg,Ann\n"2.jpg,Ann\n3.jpg,Bob\n')
    with pytest.raises(DataError, match=r"a\.csv, line 3: unexpected end of data"):
        read_photo_table(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_table_that_a_spreadsheet_saved_is_read_as_meant(suffix, tmp_path):
    text = HEADER + "a.jpg,Ann,104.5,2,3,4,5,6,7,8,9,10.25\n"
    for content in (
        text.replace(",", ";").replace(".5", ",5").replace(".25", ",25").encode("utf-8-sig").replace(b"\n", b"\r\n"),
        text.replace(",", "\t").encode("utf-16"),
        text.encode("utf-16"),
    ):
        (tmp_path / f"a{suffix}").write_bytes(content)
        found = read_photo_table(tmp_path / f"a{suffix}")
        assert found.landmarks is not None and list(found.paths) == ["a.jpg"] and found.identities == ["Ann"]
        assert found.landmarks.ravel().tolist() == [104.5, 2, 3, 4, 5, 6, 7, 8, 9, 10.25]


def test_line_that_cannot_be_taken_apart_is_told_and_the_others_are_read(tmp_path):
    told: list[tuple[str, str]] = []
    path = table(tmp_path, 'path;identity\n1.jpg;Ann\n"2"x;Ann\n3.jpg;\n4.jpg;Bob\n')
    found = read_photo_table(path, on_fault=lambda place, what: told.append((place, what)))
    assert list(found.paths) == ["1.jpg", "4.jpg"] and [place for place, _ in told] == ["line 3", "line 4"]
