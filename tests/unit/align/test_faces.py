"""Which of several faces is taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.align.faces import Faces, choose_face, overlaps
from facerec.core.errors import ConfigError

SIZE_PX = (100, 200)  # height, width
BOXES = [[0, 0, 40, 50], [80, 30, 30, 40], [150, 10, 20, 20]]


def faces(boxes, scores=None) -> Faces:
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    landmarks = boxes[:, None, :2] + np.zeros((len(boxes), 5, 2))
    return Faces(boxes=boxes, landmarks=landmarks, scores=np.array(scores or [0.9] * len(boxes)))


@pytest.mark.parametrize(
    ("rule", "box", "expected"),
    [
        ("largest", None, 0),
        ("central", None, 1),
        ("nearest_box", [145, 5, 40, 40], 2),  # a loose box around the last
        ("nearest_box", [90, 45, 4, 4], 1),  # a tight one inside the second
        ("nearest_box", [35, 45, 30, 30], None),  # touches the first; neither centre lies in the other
        ("nearest_box", [0, 0, 200, 100], 0),  # all of them: the largest share
    ],
)
def test_rule_takes_its_face(rule, box, expected):
    wanted = None if box is None else np.array(box, dtype=np.float64)
    assert choose_face(faces(BOXES), rule=rule, photo_size_px=SIZE_PX, wanted_box=wanted) == expected


@pytest.mark.parametrize("rule", ["largest", "central", "nearest_box"])
def test_of_equals_the_surest_is_taken_then_the_first(rule):
    twice, box = [BOXES[0]] * 3, np.array(BOXES[0], dtype=np.float64)
    for scores, expected in (([0.7, 0.9, 0.9], 1), ([0.8, 0.8, 0.8], 0)):
        found = choose_face(faces(twice, scores), rule=rule, photo_size_px=SIZE_PX, wanted_box=box)
        assert found == expected


def test_no_face_is_none():
    assert choose_face(faces([]), rule="largest", photo_size_px=SIZE_PX) is None


def test_unknown_rule_and_missing_box_are_refused():
    with pytest.raises(ConfigError, match="choose=biggest; expected one of largest, central, nearest_box"):
        choose_face(faces(BOXES), rule="biggest", photo_size_px=SIZE_PX)
    with pytest.raises(ConfigError, match="needs a box for every photo"):
        choose_face(faces(BOXES), rule="nearest_box", photo_size_px=SIZE_PX)


BOX = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2)


@given(st.lists(BOX, max_size=4), BOX)
def test_overlap_is_that_of_pixels_counted(boxes, box):
    def pixels(box):
        left, top, width, height = box
        return {(x, y) for x in range(left, left + width) for y in range(top, top + height)}

    expected = [len(pixels(other) & pixels(box)) / len(pixels(other) | pixels(box)) for other in boxes]
    found = overlaps(np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(box, dtype=np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-12)
