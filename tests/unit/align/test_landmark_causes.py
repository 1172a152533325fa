"""What the rejected landmarks of a list have in common is found and named."""

from collections.abc import Callable

import numpy as np
import pytest

from facerec.align.landmark_causes import FacesOfAList, common_cause, corner_note
from facerec.align.landmark_checks import geometry
from facerec.align.similarity import TEMPLATE_112

HEIGHT, WIDTH = 250, 200


def faces(num_faces: int = 40) -> np.ndarray:
    """Faces that differ, in the middle of their photos: float64 (N, 5, 2)."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.6, 0.9, (num_faces, 1, 1))
    return (
        (TEMPLATE_112 - 56 + rng.normal(0, 2, (num_faces, 5, 2))) * sizes
        + [100, 125]
        + rng.uniform(-8, 8, (num_faces, 1, 2))
    )


def gathered(landmarks: np.ndarray, *, size_px: tuple[int, int] = (HEIGHT, WIDTH)) -> FacesOfAList:
    """Those that are rejected."""
    found = FacesOfAList()
    for points in landmarks[~geometry(landmarks, [size_px] * len(landmarks)).is_sound]:
        found.add(points.ravel().tolist(), size_px)
    return found


MISTAKES: list[tuple[Callable[[np.ndarray], np.ndarray], str]] = [
    (lambda p: p * 2, "fit a photo of twice the size"),
    (lambda p: p * 3.5, "fit a photo of 4 times the size"),
    (lambda p: p + [1000, -300], "fit when moved by about -1000 pixels in x and 290 in y"),
    (lambda p: p.swapaxes(1, 2).reshape(-1, 5, 2), "fit as x1 ... x5 followed by y1 ... y5"),
    (lambda p: p.reshape(-1, 2, 5).swapaxes(1, 2), "fit as x1, y1 ... x5, y5, where all x are expected before all y"),
    (lambda p: p[:, :, ::-1], "fit with x and y exchanged"),
    (lambda p: p[:, [1, 0, 2, 4, 3]], "fit with left and right exchanged"),
    (lambda p: p / [WIDTH, HEIGHT], "fit as fractions of the photo"),
    (lambda p: p * [1, -1] + [0, HEIGHT - 1], "fit with y counted from the photo's lower edge"),
    (lambda p: p[:, [2, 0, 1, 3, 4]], "fit as nose, left eye, right eye, left mouth corner, right mouth corner; write"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistake_of_a_whole_list_is_named(mistake, message):
    rejected = gathered(mistake(faces()))
    assert rejected.num_added >= 30
    cause = common_cause(rejected)
    assert cause is not None and message in cause, cause


def test_landmarks_of_the_photo_before_its_orientation_are_named():
    upright = faces() + [0, 0]
    stored = np.stack([upright[..., 1] + 80, WIDTH - 1 - upright[..., 0]], axis=2)  # taken with the camera turned
    cause = common_cause(gathered(stored, size_px=(HEIGHT + 80, WIDTH)))
    assert cause is not None and "before its EXIF orientation was applied" in cause


def test_rejections_of_different_causes_are_explained_by_none():
    rng = np.random.default_rng(1)
    rejected = gathered(rng.uniform(0, 200, (40, 5, 2)))
    assert rejected.num_added > 30 and common_cause(rejected) is None
    assert common_cause(FacesOfAList()) is None
    mixed = np.concatenate([faces()[:20] * 2, faces()[:, [1, 0, 2, 4, 3]][:20]])
    assert common_cause(gathered(mixed)) is None
    most = np.concatenate([faces() * 2, faces()[:, [1, 0, 2, 4, 3]][:5]])
    assert str(common_cause(gathered(most))).startswith("89 % of the faces rejected for their landmarks fit a photo")


def test_millions_of_faces_take_no_more_memory_than_hundreds():
    found = FacesOfAList()
    for number in range(10_000):
        found.add([number] * 10, (HEIGHT, WIDTH))
    kept = found.landmarks_N52[:, 0, 0]
    assert found.num_added == 10_000 and 100 <= len(kept) <= 200
    assert (np.diff(kept) == kept[1]).all() and kept[-1] > 9_000  # evenly, to the end


def test_faces_that_all_lie_in_the_upper_left_quarter_are_noted():
    half, whole = FacesOfAList(), FacesOfAList()
    for points in faces():
        half.add((points / 2).ravel().tolist(), (HEIGHT, WIDTH))
        whole.add(points.ravel().tolist(), (HEIGHT, WIDTH))
    assert "upper left quarter of their photos" in str(corner_note(half)) and corner_note(whole) is None
