"""The five-point template and the least-squares similarity transform onto it."""

import math

import numpy as np
from numpy.typing import ArrayLike

from facerec.core.errors import DataError

# (x, y) in a 112x112 crop: left eye, right eye, nose tip, left and right mouth corner; left is the image's left.
TEMPLATE_112 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float64,
)
TEMPLATE_112.setflags(write=False)


def template(height_px: int, width_px: int) -> np.ndarray:
    """Returns the places of the five landmarks in a crop of that size: float64 (5, 2), x and y in pixels.

    The template is scaled with the height, and the face stays in the middle of the width: at 112 x 96, the size of
    SphereFace and CosFace, the five points are those of 112 x 112 shifted by -8 in x.
    """
    return TEMPLATE_112 * (height_px / 112) + [(width_px - height_px) / 2, 0.0]


def similarity_transform(source_points: ArrayLike, target_points: ArrayLike) -> np.ndarray:
    """Returns the rotation, uniform scale and translation that bring `source_points` closest to `target_points`.

    Solves least squares, without reflection (S. Umeyama, "Least-squares estimation of transformation parameters between
    two point patterns", PAMI 1991, equations 40 to 43).

    Args:
        source_points, target_points: (N, 2), x and y in pixels, N >= 2, in the same order.

    Returns:
        float64 (2, 3): target ~ matrix[:, :2] @ source + matrix[:, 2].

    Raises:
        DataError: other shapes, values that are not finite, or points that all coincide (or that fit no rotation).
    """
    source = np.asarray(source_points, dtype=np.float64)
    target = np.asarray(target_points, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise DataError(
            f"landmarks: got shapes {source.shape} and {target.shape}; expected two arrays of the same (N, 2), N >= 2"
        )
    source_mean, target_mean = source.sum(axis=0) / len(source), target.sum(axis=0) / len(source)
    if not math.isfinite(source_mean.sum() + target_mean.sum()):
        raise DataError(f"landmarks {source.tolist()}: expected finite numbers; detect the landmarks again")
    source_centred, target_centred = source - source_mean, target - target_mean
    variance = float((source_centred * source_centred).sum()) / len(source)
    u, singular_values, vt = np.linalg.svd(target_centred.T @ source_centred / len(source))
    orientation = (u[0, 0] * u[1, 1] - u[0, 1] * u[1, 0]) * (vt[0, 0] * vt[1, 1] - vt[0, 1] * vt[1, 0])
    signs = np.array([1.0, 1.0 if orientation > 0 else -1.0])
    strength = float(singular_values @ signs)
    # Both are zero up to rounding, which grows with the distance of the points from the origin.
    source_square, target_square = 1.0 + float(source_mean @ source_mean), 1.0 + float(target_mean @ target_mean)
    if variance <= 1e-18 * source_square or strength <= 1e-12 * math.sqrt(variance * target_square):
        raise DataError(
            f"landmarks {source.tolist()}: they coincide or fit no rotation onto the template; expected distinct "
            "points in the order left eye, right eye, nose, left mouth corner, right mouth corner"
        )
    rotation = (u * signs) @ vt
    scale = strength / variance
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = target_mean - matrix[:, :2] @ source_mean
    return matrix
