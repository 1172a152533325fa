"""Lists of faces that others have written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.align.landmark_files import read_face_list
from facerec.align.photo_table import BOX_COLUMNS, LANDMARK_COLUMNS
from facerec.core.errors import DataError

CELEBA_HEADER = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
)
TEN = "69 109 106 113 77 142 73 152 108 154"
POINTS = [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]]


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_celebas_landmarks_are_read(tmp_path):
    text = f"2\n{CELEBA_HEADER}\n000001.jpg {TEN}\n000002.jpg  {TEN.replace('69', '-3')}\n"
    found = read_face_list(written(tmp_path, "list_landmarks_celeba.txt", text))
    assert list(found.paths) == ["000001.jpg", "000002.jpg"] and found.identities is None and found.boxes is None
    assert found.landmarks is not None and found.landmarks[0].tolist() == POINTS
    assert found.landmarks[1, 0].tolist() == [-3, 109]


def test_celebas_boxes_and_identities_are_read(tmp_path):
    text = "2\nimage_id x_1 y_1 width height\n000001.jpg    95  71 226 313\n000002.jpg 0 0 0 0\n"
    boxes = read_face_list(written(tmp_path, "list_bbox_celeba.txt", text)).boxes
    assert boxes is not None and boxes[0].tolist() == [95, 71, 226, 313] and np.isnan(boxes[1]).all()
    found = read_face_list(written(tmp_path, "identity_CelebA.txt", "000001.jpg 2880\n000002.jpg 2937\n"))
    assert found.identities is not None and list(found.identities) == ["2880", "2937"]
    assert list(found.paths) == ["000001.jpg", "000002.jpg"] and found.landmarks is None


def test_insightfaces_list_has_all_x_before_all_y(tmp_path):
    points = "\t".join(["69", "106", "77", "73", "108", "109", "113", "142", "152", "154"])
    found = read_face_list(written(tmp_path, "a.lst", f"0\tAnn/b c.jpg\t7\t10\t20\t110\t220\t{points}\n"))
    assert found.identities is not None and found.landmarks is not None and found.boxes is not None
    assert (list(found.paths), list(found.identities)) == (["Ann/b c.jpg"], ["7"])
    assert found.landmarks.tolist() == [POINTS] and found.boxes.tolist() == [[10, 20, 100, 200]]
    short = read_face_list(written(tmp_path, "b.lst", "1\ta.jpg\t7\n\n1\tb.jpg\t8\n"))
    assert len(short.paths) == 2 and short.landmarks is None and short.boxes is None


def test_table_may_have_boxes_and_lines_without(tmp_path):
    header = ",".join(("path", "identity", *LANDMARK_COLUMNS, *BOX_COLUMNS))
    text = f"{header}\na.jpg,Zoe,{TEN.replace(' ', ',')},1,2,3,4\nb.jpg,Ann,{TEN.replace(' ', ',')},,,,\n"
    found = read_face_list(written(tmp_path, "a.csv", text))
    assert found.identities is not None and found.landmarks is not None and found.boxes is not None
    assert list(found.identities) == ["Zoe", "Ann"] and found.landmarks.tolist() == [POINTS, POINTS]
    assert found.boxes[0].tolist() == [1, 2, 3, 4] and np.isnan(found.boxes[1]).all()


BOXES = "path,identity,box_x,box_y,box_width,box_height\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", "a.json: expected a table"),
        ("a.txt", "", "a.txt, line 1: '', then ''; expected the number of lines"),
        ("a.txt", f"2\n{CELEBA_HEADER}\na.jpg {TEN}\n", "1 lines, but its first line says 2; is the file complete"),
        ("a.txt", f"1\n{CELEBA_HEADER}\na.jpg {TEN} 4\n", "line 3: expected a name and 10 numbers"),
        ("a.txt", f"1\n{CELEBA_HEADER}\na.jpg {TEN.replace('69', 'x')}\n", "line 3: expected 10 numbers"),
        ("a.txt", f"1\n{CELEBA_HEADER}\na.jpg {TEN.replace('69', 'inf')}\n", "line 3: expected 10 numbers"),
        ("a.txt", "1\n5_o_Clock_Shadow\na.jpg 1\n", "expected the number of lines, then the header lefteye_x"),
        ("a.txt", "a.jpg 1\nb.jpg\n", "line 2: expected a photo and an identity"),
        ("a.lst", "", "it lists no face"),
        ("a.lst", "1 a.jpg 3\n", "line 1: expected 3, 7 or 17 fields separated by tabs"),
        ("a.lst", "1\ta.jpg\t3\n1\tb.jpg\t3\t1\t2\t3\t4\n", "line 2: 7 fields, but 3 in the lines before"),
        ("a.lst", "1\tb.jpg\t3\t5\t2\t3\t4\n", "line 1: expected left, top, right and bottom"),
        ("a.csv", BOXES + "a.jpg,Ann,1,2,0,4\n", "line 2: expected left, top, width and height of a box"),
        ("a.csv", BOXES + "a.jpg,Ann,1,2,3,\n", "line 2: expected left, top, width and height of a box"),
        ("a.csv", "path,identity,box_x\na.jpg,Ann,1\n", "the header lacks box_height, box_width, box_y"),
    ],
)
def test_what_does_not_fit_is_named(name, text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_face_list(written(tmp_path, name, text))


@pytest.mark.parametrize("name", ["nowhere.txt", "nowhere.lst", "nowhere.csv"])
def test_missing_file_is_named(name, tmp_path):
    with pytest.raises(DataError, match=f"{name}: cannot be read"):
        read_face_list(tmp_path / name)


@given(content=st.binary(max_size=200) | st.text("0123456789 \t\n.,axyjpg_", max_size=200).map(str.encode))
@pytest.mark.parametrize("suffix", [".txt", ".lst", ".csv"])
def test_any_bytes_are_read_or_refused(suffix, content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    try:
        found = read_face_list(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(found.paths) > 0
