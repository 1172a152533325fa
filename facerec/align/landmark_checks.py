"""Checks whether five landmarks can be those of a face in a photo, before a crop is made from them.

Letter: N faces. Sizes are height and width of each face's photo, in pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facerec.align.similarity import TEMPLATE_112
from facerec.core.errors import DataError

MOST_MISFIT_PX = 14.0
"""See `Geometry`. 0.3 to 7 for frontal faces, up to 13.9 for profiles; 15 and more for points in another order."""
MOST_MISFIT_AS_BLOCKS = 0.7
"""Share of the misfit, if that is above `FITS_PX`: below it, the list means x1 ... x5 followed by y1 ... y5."""
FITS_PX = 6.0
LEAST_SPAN_PX = 4.0
"""The smallest face that YuNet finds in 240 photos of LFW spans 4.7 px, and is only a blur."""
MOST_OUTSIDE = 0.3
"""Share of the span. The maximum of 1,010 faces that YuNet finds in LFW and CFP, many of them cut, is 0.16."""
MOST_POINTS_OUTSIDE = 3
MOST_BORDER = 2 / 3
"""Share of the crop. Photos cut close to the face, as those of CFP, give valid crops with up to 0.60 of border."""
_GRID = np.arange(2.0, 112.0, 4.0)
_CELLS_G = (_GRID[:, None] + 1j * _GRID[None, :]).ravel()  # positions in a crop of 112 x 112, as x + iy
_TEMPLATE_5 = TEMPLATE_112[:, 0] + 1j * TEMPLATE_112[:, 1]


class BadLandmarksError(DataError):
    """Landmarks that are not those of a face in their photo.

    Attributes:
        photo_size_px: height and width of the photo.
    """

    def __init__(self, message: str, *, photo_size_px: tuple[int, int]) -> None:
        super().__init__(message)
        self.photo_size_px = photo_size_px


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Measures of the landmarks of N faces in their photos, and in crops of 112 x 112 made from them.

    Attributes:
        span_px: float64 (N,): the diagonal of the rectangle around the five points, in pixels of the photo.
        num_outside: int64 (N,): how many of the five points are outside the photo.
        outside_px: float64 (N,): the largest distance of such a point from the photo.
        misfit_px: float64 (N,): root mean square distance of the points from the template in the crop.
        border: float64 (N,): the share of the crop that is outside the photo, to within 2 %.
        is_upright: bool (N,): the crop is rotated by less than 45 degrees against the photo.
        are_blocks: bool (N,): the ten numbers fit far better as x1 ... x5 followed by y1 ... y5.
    """

    span_px: np.ndarray
    num_outside: np.ndarray
    outside_px: np.ndarray
    misfit_px: np.ndarray
    border: np.ndarray
    is_upright: np.ndarray
    are_blocks: np.ndarray

    @property
    def is_sound(self) -> np.ndarray:
        """True for landmarks that can be those of a face in the photo: bool (N,)."""
        return (
            (self.span_px >= LEAST_SPAN_PX)
            & (self.outside_px <= MOST_OUTSIDE * self.span_px)
            & (self.num_outside <= MOST_POINTS_OUTSIDE)
            & (self.misfit_px <= MOST_MISFIT_PX)
            & ~self.are_blocks
            & (self.border <= MOST_BORDER)
        )


def geometry(landmarks_N52: ArrayLike, sizes_N2: ArrayLike) -> Geometry:
    """Measures the landmarks of N faces.

    The similarity onto the template is that of `similarity_transform`, in complex numbers: scale * photo + shift.
    """
    points, sizes = np.asarray(landmarks_N52, dtype=np.float64), np.asarray(sizes_N2, dtype=np.float64)
    limits = sizes[:, None, ::-1] - 0.5  # the first pixel extends from -0.5 to 0.5
    with np.errstate(all="ignore"):  # absurd values compare as false, so that the face is not valid
        span = np.hypot(*np.ptp(points, axis=1).T)
        outside = np.maximum(np.maximum(-0.5 - points, points - limits), 0.0).max(axis=2)
        scale, mean, misfit = _onto_template(points)
        cells = (_CELLS_G - _TEMPLATE_5.mean()) / scale[:, None] + mean[:, None]
        x, y = cells.real, cells.imag
        is_inside = (x >= -0.5) & (y >= -0.5) & (x <= limits[..., 0]) & (y <= limits[..., 1])
        scale_as_blocks, _, misfit_as_blocks = _onto_template(as_blocks(points))
        are_blocks = (misfit > FITS_PX) & (misfit_as_blocks < MOST_MISFIT_AS_BLOCKS * misfit)
    return Geometry(
        span_px=span,
        num_outside=(outside > 0).sum(axis=1),
        outside_px=outside.max(axis=1),
        misfit_px=misfit,
        border=1.0 - is_inside.mean(axis=1),
        is_upright=_is_upright(scale),
        are_blocks=are_blocks & _is_upright(scale_as_blocks),
    )


def as_blocks(landmarks_N52: np.ndarray) -> np.ndarray:
    """Returns the ten numbers of each face, read as x1 ... x5 followed by y1 ... y5: float64 (N, 5, 2)."""
    return landmarks_N52.reshape(-1, 2, 5).swapaxes(1, 2)


def _onto_template(points_N52: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns scale and rotation, complex (N,); the mean of the points, complex (N,); the misfit in pixels, (N,)."""
    source = points_N52[..., 0] + 1j * points_N52[..., 1]
    mean = source.mean(axis=1)
    centred, target = source - mean[:, None], _TEMPLATE_5 - _TEMPLATE_5.mean()
    scale = (centred.conj() * target).sum(axis=1) / (np.abs(centred) ** 2).sum(axis=1)
    return scale, mean, np.sqrt((np.abs(scale[:, None] * centred - target) ** 2).mean(axis=1))


def _is_upright(scale: np.ndarray) -> np.ndarray:
    return np.abs(np.angle(scale)) < np.pi / 4


def check_landmarks(landmarks: np.ndarray, *, photo_size_px: tuple[int, int]) -> None:
    """Refuses five points, (5, 2), that cannot be the landmarks of a face in a photo of this height and width.

    Raises:
        BadLandmarksError: gives the fault, and the likely cause.
    """
    found = geometry(landmarks[None], [photo_size_px])
    if found.is_sound[0]:
        return
    span, num_outside, outside = found.span_px[0], int(found.num_outside[0]), found.outside_px[0]
    photo = f"the photo of {photo_size_px[0]} x {photo_size_px[1]} pixels (height x width)"
    if not span >= LEAST_SPAN_PX:
        what = f"the five points span {span:.1f} pixels: they are not in pixels, or fit a smaller copy of the photo"
    elif num_outside > MOST_POINTS_OUTSIDE or not outside <= MOST_OUTSIDE * span:
        what = (
            f"{num_outside} of the five points lie outside {photo}, by up to {outside:.0f}: they belong to another "
            "photo, or to a larger copy of it"
        )
    elif found.are_blocks[0]:
        what = (
            "the points fit the template far better as x1 ... x5 followed by y1 ... y5 than as x1, y1 ... x5, y5: "
            "write each point as x, y"
        )
    elif not found.misfit_px[0] <= MOST_MISFIT_PX:
        what = (
            f"{found.misfit_px[0]:.0f} px from the template on average after alignment: no face, or points in another "
            "order than left eye, right eye, nose, left and right mouth corner (left in the image)"
        )
    else:
        what = f"{100 * found.border[0]:.0f} % of the crop lies outside {photo}: the landmarks belong to another photo"
    raise BadLandmarksError(what, photo_size_px=photo_size_px)


def refuse_fractions(landmarks_N52: np.ndarray, *, path: object) -> None:
    """Refuses a list with landmarks that are fractions of the photos' sides.

    Raises:
        DataError: every x and y of the list is between -1 and 2, where five pixels of a face cannot be.
    """
    if not len(landmarks_N52):
        return
    low, high = float(landmarks_N52.min()), float(landmarks_N52.max())
    if low >= -1.0 and high <= 2.0:
        raise DataError(
            f"{path}: every x and y is from {low:.3g} to {high:.3g}, like fractions of the photo; expected pixels. "
            "Multiply x by the width of the photo and y by its height"
        )
