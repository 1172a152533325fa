"""Landmarks of one face, as seen in views of it alone."""

import cv2
import numpy as np
import pytest

from facerec.align.face_views import nearer_landmarks
from facerec.align.faces import Faces
from facerec.align.similarity import TEMPLATE_112

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], dtype=np.uint8)


def drawn_face(points: np.ndarray, side_px: int, radius_px: int) -> np.ndarray:
    """A photo with a disc of its own colour at each landmark."""
    photo = np.zeros((side_px, side_px, 3), dtype=np.uint8)
    for point, colour in zip(points, COLOURS.tolist(), strict=True):
        centre = tuple(int(value) for value in np.round(point * 16))
        cv2.circle(photo, centre, radius_px * 16, colour, -1, cv2.LINE_AA, shift=4)
    return photo


def look_at_discs(view: np.ndarray, *, bias_px: float = 0.0) -> Faces:
    """The middle of each disc, all shifted by `bias_px` to the right in the view; left and right by where they lie."""
    points = []
    for colour in COLOURS.astype(int):
        rows, columns = np.nonzero(np.abs(view.astype(int) - colour).max(axis=2) < 100)
        if not len(rows):
            return Faces(boxes=np.zeros((0, 4)), landmarks=np.zeros((0, 5, 2)), scores=np.zeros(0))
        points.append([columns.mean() + bias_px, rows.mean()])
    eyes, mouth = sorted(points[:2]), sorted(points[3:])
    landmarks = np.array([*eyes, points[2], *mouth])
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    size = (high - low) * [1.6, 1.8]
    box = np.concatenate([(low + high - size) / 2, size])
    return Faces(boxes=box[None], landmarks=landmarks[None], scores=np.array([0.9]))


@pytest.mark.parametrize("roll_deg", [0, 25, 90, 180, -90])
@pytest.mark.parametrize("face_px", [40, 900])
def test_views_of_a_face_of_any_size_and_roll_give_its_landmarks(face_px, roll_deg):
    angle, scale = np.deg2rad(roll_deg), face_px / 70
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (TEMPLATE_112 - 70) @ turn.T * scale + 20 * scale + 4 * face_px
    photo = drawn_face(points, 8 * face_px, face_px // 12)
    low, high = points.min(axis=0), points.max(axis=0)
    wide = np.concatenate([(low + high) / 2 - face_px * 0.5, [face_px] * 2])
    rng = np.random.default_rng(0)
    first = points + rng.normal(0, 0.03 * face_px, (5, 2))
    found = nearer_landmarks(photo, box=wide, landmarks=first, look=look_at_discs)
    assert np.abs(found - points).max() < 0.012 * face_px + 0.1
    assert np.abs(first - points).max() > 0.035 * face_px


def test_what_one_view_shifts_its_mirror_image_shifts_back():
    points = TEMPLATE_112 + 60
    photo = drawn_face(points, 240, 5)
    box = np.array([80.0, 95.0, 70.0, 70.0])
    found = nearer_landmarks(photo, box=box, landmarks=points, look=lambda view: look_at_discs(view, bias_px=9.0))
    np.testing.assert_allclose(found, points, atol=0.4)


def test_face_that_no_view_shows_keeps_its_landmarks():
    points = TEMPLATE_112 + 60
    photo = np.zeros((240, 240, 3), dtype=np.uint8)
    found = nearer_landmarks(photo, box=np.array([90.0, 100, 60, 70]), landmarks=points, look=look_at_discs)
    np.testing.assert_array_equal(found, points)
