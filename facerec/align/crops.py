"""Makes aligned crops from photos and their five landmarks."""

import cv2
import numpy as np

from facerec.align.similarity import similarity_transform, template
from facerec.core.errors import DataError


def align_crop(photo: np.ndarray, landmarks: np.ndarray, *, size_px: int | tuple[int, int] = 112) -> np.ndarray:
    """Warps a photo so that its landmarks match the template: bilinear, black outside the photo.

    Args:
        photo: uint8 (H, W, 3).
        landmarks: (5, 2), x and y in pixels, in the order of the template.
        size_px: height and width of the crop, or its side; the template scales with the height (see `template`).

    Returns:
        uint8 (height, width, 3), channels in the photo's order.

    Raises:
        DataError: the photo is not uint8 (H, W, 3) or too large for OpenCV, or the landmarks are not five distinct
            points.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise DataError(f"photo is {photo.dtype} {photo.shape}; expected uint8 (height, width, 3)")
    height_px, width_px = (size_px, size_px) if isinstance(size_px, int) else size_px
    matrix = similarity_transform(landmarks, template(height_px, width_px))
    try:
        return cv2.warpAffine(
            photo, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
    except cv2.error:  # OpenCV 4 does not warp photos with a side above 32766 pixels
        raise DataError(
            f"photo is {photo.shape[0]} x {photo.shape[1]} pixels, too large for OpenCV to warp; make it smaller"
        ) from None
