"""Finds what the rejected landmarks of a list have in common: the one mistake in the list that would explain them.

Letter: N faces.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from facerec.align.landmark_checks import as_blocks, geometry

LEAST_SHARE = 0.8
"""A mistake is named if this share of the rejected faces fits once it is undone."""
MOST_LOOKED_AT = 200
"""Number of faces, spread evenly over the list."""
_FEWEST_IN_A_CORNER = 20
_FACTORS = (2, 3, 4, 5, 6, 8, 10, 16, 32)
_LEAST_SPAN = 0.08
"""Share of the photo's shorter side: points that would span less are not explained by a photo of another size."""
_POINT_NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
_Undo = Callable[[np.ndarray, np.ndarray], np.ndarray]


class FacesOfAList:
    """Landmarks and the sizes of their photos, for at most `MOST_LOOKED_AT` faces spread over all that are added."""

    def __init__(self) -> None:
        self.num_added = 0
        self._stride = 1
        self._landmarks: list[Sequence[float]] = []
        self._sizes: list[Sequence[int]] = []

    def add(self, landmarks: Sequence[float], photo_size_px: Sequence[int]) -> None:
        """Adds x1, y1 ... x5, y5 and the photo's height and width."""
        if self.num_added % self._stride == 0:
            self._landmarks.append(landmarks)
            self._sizes.append(photo_size_px)
        self.num_added += 1
        if len(self._landmarks) > MOST_LOOKED_AT:
            self._stride *= 2
            self._landmarks, self._sizes = self._landmarks[::2], self._sizes[::2]

    @property
    def landmarks_N52(self) -> np.ndarray:
        """Returns float64 (N, 5, 2)."""
        return np.array(self._landmarks, dtype=np.float64).reshape(-1, 5, 2)

    @property
    def sizes_N2(self) -> np.ndarray:
        """Returns height and width: float64 (N, 2)."""
        return np.array(self._sizes, dtype=np.float64).reshape(-1, 2)


def common_cause(rejected: FacesOfAList) -> str | None:
    """Returns the mistake that explains most of the faces rejected for their landmarks, with a fix; or None.

    Each mistake is undone, and the faces that are then upright and valid are counted. If several mistakes explain the
    same number, the first and simplest is named.
    """
    points, sizes = rejected.landmarks_N52, rejected.sizes_N2
    if not len(points):
        return None
    best, cause = 0.0, None
    for undo, what in itertools.chain(_mistakes(), _scales(points, sizes), _shifts(points, sizes), _orders()):
        undone = undo(points, sizes)
        found = geometry(undone, sizes)
        share = float((found.is_sound & found.is_upright).mean())
        if share > best:
            best, cause = share, what
        if best == 1.0:
            break
    if best < LEAST_SHARE:
        return None
    return f"{'all' if best == 1.0 else f'{100 * best:.0f} % of the'} faces rejected for their landmarks {cause}"


def corner_note(judged: FacesOfAList) -> str | None:
    """Returns a warning if all faces of a list are in the upper left quarter of their photos; else None."""
    points, sizes = judged.landmarks_N52, judged.sizes_N2
    if len(points) < _FEWEST_IN_A_CORNER or not (points.max(axis=1) < sizes[:, ::-1] / 2).all():
        return None
    return (
        "all faces lie in the upper left quarter of their photos, as landmarks of smaller copies of the photos do; "
        "look at the crops"
    )


def _mistakes() -> Iterator[tuple[_Undo, str]]:
    order = "write each point as x, y: x1, y1 ... x5, y5"
    yield (
        lambda points, sizes: as_blocks(points),
        f"fit as x1 ... x5 followed by y1 ... y5; {order}",
    )
    yield (
        lambda points, sizes: points.swapaxes(1, 2).reshape(-1, 5, 2),
        "fit as x1, y1 ... x5, y5, where all x are expected before all y",
    )
    yield (lambda points, sizes: points[..., ::-1], "fit with x and y exchanged; write x first")
    yield (
        lambda points, sizes: points[:, [1, 0, 2, 4, 3]],
        "fit with left and right exchanged; the left eye and mouth corner are those on the left in the image",
    )
    yield (
        lambda points, sizes: points * sizes[:, None, ::-1],
        "fit as fractions of the photo; multiply x by the width of the photo and y by its height",
    )
    yield (
        lambda points, sizes: np.stack([points[..., 0], sizes[:, :1] - 1 - points[..., 1]], axis=2),
        "fit with y counted from the photo's lower edge; count it from the upper one",
    )
    turned = "fit the photo as it was before its EXIF orientation was applied; give landmarks of the upright photo"
    yield lambda points, sizes: np.stack([sizes[:, 1:] - 1 - points[..., 1], points[..., 0]], axis=2), turned
    yield lambda points, sizes: np.stack([points[..., 1], sizes[:, :1] - 1 - points[..., 0]], axis=2), turned
    yield lambda points, sizes: sizes[:, None, ::-1] - 1 - points, turned


def _scales(points: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[_Undo, str]]:
    """Yields landmarks of photos of other sizes, first the size that brings the faces nearest to the middle."""
    spans = geometry(points, sizes).span_px / sizes.min(axis=1)
    middle = max(float(np.median(points[..., 0].mean(axis=1) / sizes[:, 1])), 1e-9) * 2
    for factor in sorted(_FACTORS, key=lambda factor: abs(math.log(factor / middle))):
        if np.median(spans) / factor < _LEAST_SPAN:
            continue
        times = "twice" if factor == 2 else f"{factor} times"
        yield (
            functools.partial(_divided, factor),
            f"fit a photo of {times} the size; scale the landmarks as the photos were, or give the photos they are of",
        )


def _divided(factor: int, points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return points / factor


def _shifts(points: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[_Undo, str]]:
    """Returns one shift for all landmarks, which brings them to the middle of their photos."""
    shift = np.median(points.mean(axis=1) - sizes[:, ::-1] / 2, axis=0)
    x, y = (round(value, -1) for value in shift.tolist())
    yield (
        lambda points, sizes: points - shift,
        f"fit when moved by about {-x:.0f} pixels in x and {-y:.0f} in y, as those of a photo that was cropped later",
    )


def _reordered(order: tuple[int, ...], points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return points[:, list(order)]


def _orders() -> Iterator[tuple[_Undo, str]]:
    for order in itertools.permutations(range(5)):
        names = [""] * 5
        for meant, given in enumerate(order):
            names[given] = _POINT_NAMES[meant]
        yield (
            functools.partial(_reordered, order),
            f"fit as {', '.join(names)}; write them as {', '.join(_POINT_NAMES)}",
        )
