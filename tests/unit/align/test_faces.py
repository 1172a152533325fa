"""Which of several faces is taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.align.faces import Faces, overlaps, ranked_faces
from facerec.align.similarity import TEMPLATE_112
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
    ranked = ranked_faces(faces(BOXES), rule=rule, photo_size_px=SIZE_PX, wanted_box=wanted)
    assert next(iter(ranked), None) == expected


@pytest.mark.parametrize("rule", ["largest", "central", "nearest_box"])
def test_of_equals_the_surest_is_taken_then_the_first(rule):
    twice, box = [BOXES[0]] * 3, np.array(BOXES[0], dtype=np.float64)
    for scores, expected in (([0.7, 0.9, 0.9], 1), ([0.8, 0.8, 0.8], 0)):
        ranked = ranked_faces(faces(twice, scores), rule=rule, photo_size_px=SIZE_PX, wanted_box=box)
        assert ranked[0] == expected and len(ranked) == 3


def test_without_a_face_there_is_none_to_take():
    assert ranked_faces(faces([]), rule="largest", photo_size_px=SIZE_PX) == []


@pytest.mark.parametrize("rule", ["largest", "central"])
@pytest.mark.parametrize(
    ("scores", "left", "expected"),
    [
        ([0.68, 0.95], -60, [1, 0]),  # 0.54 of the crop of the first lies outside
        ([0.95, 0.68], -60, [0, 1]),  # the surer one is not given up
        ([0.68, 0.95], -30, [0, 1]),  # 0.27
    ],
)
def test_face_with_much_border_gives_way_to_a_surer_one(rule, scores, left, expected):
    landmarks = np.stack([TEMPLATE_112 + [left, 40], TEMPLATE_112 * 0.4 + [250, 10]])
    low = landmarks.min(axis=1)
    boxes = np.hstack([low, landmarks.max(axis=1) - low])
    boxes[0, :2] += 50 * (rule == "central")  # nearer to the centre of the photo
    found = Faces(boxes=boxes, landmarks=landmarks, scores=np.array(scores))
    assert ranked_faces(found, rule=rule, photo_size_px=(200, 300)) == expected
    box = boxes[0] + [0, 0, 400, 400]
    assert ranked_faces(found, rule="nearest_box", photo_size_px=(200, 300), wanted_box=box)[0] == 0


def test_unknown_rule_and_missing_box_are_refused():
    with pytest.raises(ConfigError, match="choose=biggest; expected one of largest, central, nearest_box"):
        ranked_faces(faces(BOXES), rule="biggest", photo_size_px=SIZE_PX)
    with pytest.raises(ConfigError, match="needs a box for every photo"):
        ranked_faces(faces(BOXES), rule="nearest_box", photo_size_px=SIZE_PX)


BOX = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2)


@given(st.lists(BOX, max_size=4), BOX)
def test_overlap_is_that_of_pixels_counted(boxes, box):
    def pixels(box):
        left, top, width, height = box
        return {(x, y) for x in range(left, left + width) for y in range(top, top + height)}

    expected = [len(pixels(other) & pixels(box)) / len(pixels(other) | pixels(box)) for other in boxes]
    found = overlaps(np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(box, dtype=np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-12)
