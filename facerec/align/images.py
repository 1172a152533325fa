"""Aligns photos in memory: from paths, arrays or PIL images to crops, by given landmarks or with a detector."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.crops import align_crop
from facerec.align.detectors import open_detector
from facerec.align.faces import Detector, LooksAgain, ranked_faces
from facerec.align.landmark_checks import check_landmarks, geometry
from facerec.align.photo_reader import read_image
from facerec.core.errors import ConfigError, DataError


def align_images(
    images: Any,
    *,
    landmarks: Any = None,
    detector: Detector | str | Path | None = None,
    size_px: int | tuple[int, int] = 112,
    choose: str = "largest",
) -> np.ndarray:
    """Aligns photos to face crops, one face from each, as `facerec align` does for folders.

    Args:
        images: a photo, or a list of photos, each a path, an array uint8 (H, W, 3) RGB (of OpenCV's BGR pass
            `photo[..., ::-1]`) or a PIL image; or an array of photos of one size, uint8 (B, H, W, 3).
        landmarks: left eye, right eye, nose tip, left and right mouth corner, x and y in pixels, left as the viewer
            sees it: (5, 2) for a photo, (B, 5, 2) for several.
        detector: finds the landmarks, instead of `landmarks`: the path of an .onnx file of YuNet or SCRFD, or what
            `facerec.open_detector` returns, or a detector of your own.
        size_px: height and width of the crops, or their side.
        choose: which of several faces: largest, or central.

    Returns:
        uint8 RGB: (height, width, 3) for a photo, (B, height, width, 3) for several.

    Raises:
        ConfigError: landmarks and detector are both given, or neither; `choose` is another word.
        DataError: a photo cannot be read, the detector finds no face in it, or its landmarks cannot be those of a face;
            the message names it.
        ModelError: the file of the detector is none.
    """
    if (landmarks is None) == (detector is None):
        raise ConfigError(
            f"align: {'neither' if landmarks is None else 'both'} of landmarks and detector given; give one: the five "
            "landmarks of each photo, or the path of a YuNet or SCRFD .onnx"
        )
    is_single = _is_single(images)
    photos = [images] if is_single else list(images)
    if not photos:
        raise DataError("align: no photo; the list is empty")
    if isinstance(detector, str | Path):
        detector = open_detector(weights=os.fspath(detector))
    if detector is None:
        points_B = _points(landmarks, 1 if is_single else len(photos))
    crops = []
    for number, one in enumerate(photos):
        where = (
            os.fspath(one) if isinstance(one, str | os.PathLike) else "the photo" if is_single else f"images[{number}]"
        )
        photo = read_image(one, where=where)
        size = (photo.shape[0], photo.shape[1])
        try:
            points = points_B[number] if detector is None else _detected(photo, detector, choose)
            check_landmarks(points, photo_size_px=size)
            crops.append(align_crop(photo, points, size_px=size_px))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
    return crops[0] if is_single else np.stack(crops)


def _is_single(images: Any) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, str | os.PathLike) or not isinstance(images, Sequence)


def _points(landmarks: Any, num_photos: int) -> np.ndarray:
    points_B = np.asarray(landmarks, dtype=np.float64)
    if num_photos == 1 and points_B.shape == (5, 2):
        points_B = points_B[None]
    if points_B.shape != (num_photos, 5, 2):
        raise DataError(
            f"align: landmarks have the shape {points_B.shape}; expected ({num_photos}, 5, 2): five points, x and y, "
            f"for each of {num_photos} photos"
        )
    return points_B


def _detected(photo: np.ndarray, detector: Detector, choose: str) -> np.ndarray:
    """Returns the landmarks of the chosen face: the first in rank with sound ones, else the first."""
    faces = detector([photo])[0]
    size = (photo.shape[0], photo.shape[1])
    ranked = ranked_faces(faces, rule=choose, photo_size_px=size)
    if not ranked:
        raise DataError("; ".join(filter(None, ["the detector finds no face", faces.searched])))
    found = [
        detector.nearer_landmarks(photo, faces, number) if isinstance(detector, LooksAgain) else faces.landmarks[number]
        for number in ranked
    ]
    sound = [points for points in found if geometry(points[None], [size]).is_sound[0]]
    return (sound or found)[0]
