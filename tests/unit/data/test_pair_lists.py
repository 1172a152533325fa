"""Lists of pairs, LFW's and CSV, and the samples that they name."""

import pytest

from facerec.core.errors import DataError
from facerec.data.pair_lists import ListedPair, find_pairs, read_pair_list
from facerec.data.sources import FolderSource

EXPECTED = [
    ListedPair(first="Abel_Pacheco/Abel_Pacheco_0001", second="Abel_Pacheco/Abel_Pacheco_0004", is_same=True),
    ListedPair(first="Abdel_Madi/Abdel_Madi_0001", second="Dean_Barker/Dean_Barker_0012", is_same=False),
]


@pytest.mark.parametrize("header", ["10\t300\n", "2200\n", ""])
def test_list_as_lfw_has_it(header, tmp_path):
    (tmp_path / "pairs.txt").write_text(f"{header}Abel_Pacheco\t1\t4\nAbdel_Madi\t1\tDean_Barker\t12\n\n")
    assert read_pair_list(tmp_path / "pairs.txt") == EXPECTED


def test_spaces_serve_where_there_are_no_tabs_and_names_keep_theirs_where_there_are(tmp_path):
    (tmp_path / "pairs.txt").write_text("Ann 1 2\n")
    assert read_pair_list(tmp_path / "pairs.txt")[0].second == "Ann/Ann_0002"
    (tmp_path / "pairs.txt").write_text("Ann Lee\t1\t2\n")
    assert read_pair_list(tmp_path / "pairs.txt")[0].second == "Ann Lee/Ann Lee_0002"


def test_csv(tmp_path):
    (tmp_path / "own.csv").write_text('is_same,path2,path1\n1,"a, b/2.jpg",a/1.jpg\nFalse,b/1.jpg,a/1.jpg\n')
    assert read_pair_list(tmp_path / "own.csv") == [
        ListedPair(first="a/1.jpg", second="a, b/2.jpg", is_same=True),
        ListedPair(first="a/1.jpg", second="b/1.jpg", is_same=False),
    ]


@pytest.mark.parametrize("name", ["own.csv", "own.tsv"])
def test_table_that_a_spreadsheet_saved_is_read_as_meant(name, tmp_path):
    text = "path1;path2;is_same\r\na/1.jpg;a, b/2.jpg;1\r\na/1.jpg;b/1.jpg;False\r\n"
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert [pair.second for pair in read_pair_list(tmp_path / name)] == ["a, b/2.jpg", "b/1.jpg"]
    (tmp_path / "pairs.txt").write_bytes("10\t300\nAnn\t1\t2\n".encode("utf-16"))
    assert read_pair_list(tmp_path / "pairs.txt")[0].second == "Ann/Ann_0002"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pairs.txt", "10\t300\nAnn\t1\n", r"pairs\.txt, line 2: expected name, number, number"),
        ("pairs.txt", "Ann\tone\t2\n", r"line 1: expected name, number, number, .*found 'Ann\\tone"),
        ("pairs.txt", "10\t300\n", "it has no pairs"),
        ("own.csv", "path1,path2\n", "the header lacks is_same"),
        ("own.csv", "img1,img2,label\n", "Rename img1 to path1, img2 to path2, label to is_same"),
        ("own.csv", "path1,path2,is_same\na,b,maybe\n", r"line 2: expected two paths and 1 or 0, .*'maybe'"),
        ("own.csv", "path1,path2,is_same\na\n", "line 2: expected two paths"),
        ("own.csv", "path1,path2,is_same\n", "it has no pairs"),
        ("own.csv", "path1,path2,is_same\na,b,1\na," + "b" * 140_000 + ",1\n", r"own\.csv, line 3: field larger than"),
        ("own.csv", 'path1,path2,is_same\na,"b,1\nc,d,1\n', r"own\.csv, line 2: unexpected end of data"),
    ],
)
def test_what_does_not_fit_is_named(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_pair_list(tmp_path / name)


def test_what_is_no_text_or_not_there_is_named(tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not a text file"):
        read_pair_list(tmp_path / "pairs.txt")
    with pytest.raises(DataError, match=r"nowhere\.txt: cannot be read"):
        read_pair_list(tmp_path / "nowhere.txt")


def test_names_are_found_with_their_suffix_or_without_it(tmp_path):
    for name in ("ann/1.jpg", "ann/2.jpg", "bob/1.jpg"):
        (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "crops" / name).write_bytes(b"")
    source = FolderSource(root=tmp_path / "crops")
    listed = [
        ListedPair(first="ann/1", second="ann/2.jpg", is_same=True),
        ListedPair(first="ann/2", second="bob/1", is_same=False),
    ]
    assert find_pairs(listed, source, path=tmp_path / "own.csv").tolist() == [[0, 1], [1, 2]]
    with pytest.raises(DataError, match=r"own\.csv: 1 of its 2 images are not in .*crops: cat/1$"):
        absent = [ListedPair(first="ann/1", second="cat/1", is_same=False)]
        find_pairs(absent, source, path=tmp_path / "own.csv")
