"""Aligned crops from photos and their five landmarks."""

import cv2
import numpy as np

from facerec.align.similarity import TEMPLATE_112, similarity_transform
from facerec.core.errors import DataError


def align_crop(photo: np.ndarray, landmarks: np.ndarray, *, size_px: int = 112) -> np.ndarray:
    """Warps a photo so that its landmarks lie on the template: bilinear, black outside the photo.

    Args:
        photo: uint8 (H, W, 3).
        landmarks: (5, 2), x and y in pixels, in the order of the template.
        size_px: height and width of the crop; the template is scaled with it.

    Returns:
        uint8 (size_px, size_px, 3), channels in the photo's order.

    Raises:
        DataError: the photo is not uint8 (H, W, 3), or the landmarks are not five distinct points.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise DataError(f"photo is {photo.dtype} {photo.shape}; expected uint8 (height, width, 3)")
    matrix = similarity_transform(landmarks, TEMPLATE_112 * (size_px / 112))
    return cv2.warpAffine(photo, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
