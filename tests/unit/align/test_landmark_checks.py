"""Which landmarks are those of a face in their photo, and which are refused."""

import cv2
import numpy as np
import pytest

from facerec.align.landmark_checks import BadLandmarksError, check_landmarks, geometry, refuse_fractions
from facerec.align.photo_table import read_photo_table
from facerec.align.similarity import TEMPLATE_112, similarity_transform
from facerec.core.errors import DataError

SIZE_PX = (250, 200)  # height and width
FACE = (TEMPLATE_112 - 56) * 0.7 + [100, 125]  # in the middle, spanning 36 pixels


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D(tuple(points.mean(axis=0).tolist()), degrees, 1.0)
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize(
    "points",
    [
        FACE,
        turned(FACE, 90),
        turned(FACE, 180),
        FACE - [75, 0],  # the left eye and the crop's left third are cut off by the border
        FACE * [1, 1] + [0, 85],
        (FACE - FACE.mean(axis=0)) * 0.12 + 100,  # spans 5.5 pixels
        (TEMPLATE_112 - 56) * 2.6 + [100, 125],  # as large as the photo: a third of the crop is border
    ],
)
def test_faces_anywhere_in_the_photo_are_sound(points):
    check_landmarks(points, photo_size_px=SIZE_PX)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (FACE / 250, "the five points span 0.2 pixels: they are not in pixels, or fit a smaller copy"),
        (np.full((5, 2), 3.0), "the five points span 0.0 pixels"),
        (
            FACE * 2,
            r"4 of the five points lie outside the photo of 250 x 200 pixels \(height x width\), by up to 51: they",
        ),
        (FACE + 1000, "5 of the five points lie outside .*, by up to 913: they belong to another photo"),
        (FACE - [100, 0], "2 of the five points lie outside .*, by up to 12"),
        (FACE.T.reshape(5, 2), "fit the template far better as x1 ... x5 followed by y1 ... y5 than"),
        (
            FACE[[1, 0, 2, 3, 4]],
            "px from the template on average after alignment: no face, or points in another order",
        ),
        (FACE[[1, 0, 2, 4, 3]], "after alignment"),
        (FACE * [-1, 1] + [200, 0], "after alignment"),
        (np.arange(10.0).reshape(5, 2), "after alignment"),
        ((TEMPLATE_112 - 56) * 3.6 + [100, 125], "% of the crop lies outside the photo of 250 x 200"),
        (FACE * 1e300, "of the five points lie outside"),
    ],
)
def test_points_that_cannot_be_those_of_a_face_are_refused_with_the_likely_cause(points, message):
    with pytest.raises(BadLandmarksError, match=message) as caught:
        check_landmarks(points, photo_size_px=SIZE_PX)
    assert caught.value.photo_size_px == SIZE_PX


def test_geometry_is_that_of_the_warped_crop():
    rng = np.random.default_rng(0)
    faces = np.array(
        [turned(FACE + rng.normal(0, 4, (5, 2)) + rng.uniform(-90, 90, 2), rng.uniform(0, 360)) for _ in range(50)]
    )
    found = geometry(faces, [SIZE_PX] * len(faces))
    for number, points in enumerate(faces):
        matrix = similarity_transform(points, TEMPLATE_112)
        distances = points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE_112
        assert found.misfit_px[number] == pytest.approx(np.sqrt((distances**2).sum(axis=1).mean()), rel=1e-9)
        inside = cv2.warpAffine(np.ones(SIZE_PX, dtype=np.float32), matrix, (112, 112))
        assert found.border[number] == pytest.approx(1 - inside.mean(), abs=0.02)
        assert found.is_upright[number] == (matrix[0, 0] > abs(matrix[0, 1]))
    assert found.border.max() > 0.5 and 5 < found.is_upright.sum() < 45


def test_list_of_fractions_is_refused_as_a_whole():
    fractions = FACE / [200, 250]
    message = r"a\.csv: every x and y is from 0.438 to 0.602, .*expected pixels. Multiply x by the width"
    with pytest.raises(DataError, match=message):
        refuse_fractions(np.array([fractions, fractions]), path="a.csv")
    refuse_fractions(np.array([fractions, FACE]), path="a.csv")  # the photo of the first is told
    refuse_fractions(np.empty((0, 5, 2)), path="a.csv")


def test_landmarks_of_240_real_photos_are_sound_and_those_of_larger_photos_are_not(real_data):
    landmarks = read_photo_table(real_data / "lfw_photos" / "landmarks.csv").landmarks
    assert landmarks is not None and len(landmarks) == 240
    for factor, num_sound in ((1.0, 240), (2.0, 0), (3.0, 0), (0.01, 0)):
        assert geometry(landmarks * factor, [(250, 250)] * 240).is_sound.sum() == num_sound, factor
    assert geometry(landmarks + 1000, [(250, 250)] * 240).is_sound.sum() == 0
    for shift in ([0, 0], [0, 100], [-50, 0]):
        moved = (landmarks + shift).swapaxes(1, 2).reshape(-1, 5, 2)
        assert geometry(moved, [(400, 400)] * 240).is_sound.sum() <= 3
    assert geometry(landmarks[:, [1, 0, 2, 4, 3]], [(250, 250)] * 240).is_sound.sum() == 0
