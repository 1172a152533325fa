"""How far a photo is searched: the looks, their order, and where it ends."""

import numpy as np
import pytest

from facerec.align.faces import Faces
from facerec.align.photo_search import Search, search_photo

POINTS = np.array([[-1.0, -1.0], [1.0, -1.0], [0.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])


def search(**changes) -> Search:
    return Search(
        **{"longest_side_px": 640, "further_sides_px": (1280, 2560), "turns": True, "sure_score": 0.9, **changes}
    )


class Looks:
    """Finds a white dot as a face, whose score grows with the red at the top of the image."""

    def __init__(self, score_of_turned: float = 0.7, min_side_px: int = 0) -> None:
        self.score_of_turned, self.min_side_px = score_of_turned, min_side_px
        self.views: list[tuple[int, int]] = []

    def __call__(self, view: np.ndarray) -> Faces:
        self.views.append(view.shape[:2])
        rows, columns = np.nonzero(view.min(axis=2) > 200)
        if max(view.shape) < self.min_side_px or not len(rows):
            return Faces(boxes=np.zeros((0, 4)), landmarks=np.zeros((0, 5, 2)), scores=np.zeros(0))
        is_upright = view[0, view.shape[1] // 2, 0] > 100
        x, y = columns.mean(), rows.mean()
        return Faces(
            boxes=np.array([[columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]], dtype=float),
            landmarks=POINTS[None] + [x, y],
            scores=np.array([0.95 if is_upright else self.score_of_turned]),
        )


def photo_with_dot(height: int, width: int, turn: int) -> np.ndarray:
    """The dot is 4 wide and 8 high, with its left upper corner at x 32 and y 48; the photo then is turned clockwise."""
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    photo[:8, :, 0] = 150
    photo[48:56, 32:36] = 255
    return np.rot90(photo, -turn)


@pytest.mark.parametrize("turn", range(4))
def test_turned_photo_is_found_and_its_faces_lie_in_the_photo(turn):
    found = search_photo(photo_with_dot(192, 128, turn), Looks(), search(longest_side_px=192))
    assert found.turned_deg == 90 * turn and found.scores.tolist() == [0.95]
    expected = {0: [32, 48, 4, 8], 1: [136, 32, 8, 4], 2: [92, 136, 4, 8], 3: [48, 92, 8, 4]}[turn]
    np.testing.assert_allclose(found.boxes, [expected], atol=1.01)  # half the side: to the pixel of the photo
    left, top, width, height = found.boxes[0]
    nose = [left + width / 2 - 0.5, top + height / 2 - 0.5]
    np.testing.assert_allclose(found.landmarks[0, 2], nose, atol=1e-6)
    # the first landmark lies to the left and above the nose, of an upright face
    away = found.landmarks[0, 0] - found.landmarks[0, 2]
    assert np.sign(away).tolist() == {0: [-1, -1], 1: [1, -1], 2: [1, 1], 3: [-1, 1]}[turn]


def test_sure_face_ends_the_search_at_the_first_look():
    looks = Looks()
    search_photo(photo_with_dot(192, 128, 0), looks, search())
    assert looks.views == [(320, 213)]  # a small photo is enlarged to half the side


def test_face_that_is_not_sure_in_any_look_is_taken_upright():
    looks = Looks(score_of_turned=0.7)
    found = search_photo(photo_with_dot(192, 128, 0), looks, search(longest_side_px=192, sure_score=0.99))
    assert found.turned_deg == 0 and len(looks.views) == 5  # the whole side, and half of it in each turn


def test_without_turns_the_photo_is_seen_upright_only():
    looks = Looks()
    found = search_photo(photo_with_dot(192, 128, 2), looks, search(longest_side_px=192, turns=False))
    assert found.turned_deg == 0 and found.scores.tolist() == [0.7] and set(looks.views) == {(192, 128), (96, 64)}


def test_larger_sides_are_tried_where_nothing_is_found():
    looks = Looks(min_side_px=1000)
    photo = np.kron(photo_with_dot(192, 128, 0), np.ones((10, 10, 1), dtype=np.uint8))
    found = search_photo(photo, looks, search())
    assert len(found) == 1 and found.searched == ""
    np.testing.assert_allclose(found.boxes, [[320, 480, 40, 80]], atol=2)
    assert [max(view) for view in looks.views] == [640] + [320] * 4 + [160] * 4 + [640] * 3 + [1280] * 4


def test_photo_without_a_face_says_how_it_was_searched():
    photo = np.zeros((1500, 2000, 3), dtype=np.uint8)
    found = search_photo(photo, Looks(), search())
    assert len(found) == 0
    assert found.searched == "searched with a longest side of 640, 320, 160, 1280, 2000 pixels, in all quarter turns"
    found = search_photo(photo, Looks(), search(turns=False, further_sides_px=()))
    assert found.searched == "searched with a longest side of 640, 320, 160 pixels"
