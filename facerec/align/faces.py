"""The faces that a detector finds in a photo, and the rules by which one of them is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from facerec.core.errors import ConfigError

CHOICES = ("largest", "central", "nearest_box")


@dataclass(frozen=True, kw_only=True)
class Faces:
    """N faces of one photo, in its pixels.

    Attributes:
        boxes: float64 (N, 4): left, top, width, height.
        landmarks: float64 (N, 5, 2), x and y: left eye, right eye, nose, left and right mouth corner, in the image's
            left and right.
        scores: float64 (N,), the higher the surer.
        turned_deg: 0, 90, 180 or 270: by how much the photo lies turned clockwise, as its faces tell.
        searched: where nothing is found, how the photo was searched; for the report.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray
    turned_deg: int = 0
    searched: str = ""

    def __len__(self) -> int:
        return len(self.boxes)


class Detector(Protocol):
    """Any callable that finds faces. Several threads call it at once, unless one thread is asked for."""

    def __call__(self, photos: Sequence[np.ndarray]) -> Sequence[Faces]:
        """The faces of each photo, uint8 (H, W, 3), RGB; they may differ in size."""
        ...


@runtime_checkable
class LooksAgain(Protocol):
    """What a detector may have besides: a second look at the one face that was chosen."""

    def nearer_landmarks(self, photo: np.ndarray, faces: Faces, number: int) -> np.ndarray:
        """The landmarks of face `number` of those found in the photo, float64 (5, 2)."""
        ...


def choose_face(
    faces: Faces, *, rule: str, photo_size_px: tuple[int, int], wanted_box: np.ndarray | None = None
) -> int | None:
    """The number of the one face to take, or None where there is none; of equals the surest, then the first.

    Args:
        faces: N faces, N >= 0.
        rule: `largest`, the box with the largest area; `central`, the centre of the box nearest to the photo's;
            `nearest_box`, the greatest overlap (intersection over union) with `wanted_box`, among the faces whose
            centre lies in it or who have its centre in their box.
        photo_size_px: height and width of the photo.
        wanted_box: (4,): left, top, width, height; for `nearest_box`.

    Raises:
        ConfigError: there is no such rule, or a box is missing.
    """
    if rule not in CHOICES:
        raise ConfigError(f"choose={rule}; expected one of {', '.join(CHOICES)}")
    if not len(faces):
        return None
    if rule == "largest":
        merits = faces.boxes[:, 2] * faces.boxes[:, 3]
    elif rule == "central":
        height, width = photo_size_px
        merits = -np.square(_centres(faces.boxes) - [width / 2, height / 2]).sum(axis=1)
    elif wanted_box is None:
        raise ConfigError(
            "choose=nearest_box needs a box for every photo; give boxes=..., or choose largest or central"
        )
    else:
        merits = np.where(_shares_centre(faces.boxes, wanted_box), overlaps(faces.boxes, wanted_box), -np.inf)
    best = max(range(len(faces)), key=lambda number: (merits[number], faces.scores[number], -number))
    return None if merits[best] == -np.inf else best


def overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of N boxes, (N, 4) left, top, width, height, with another one: float64 (N,)."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = boxes[:, 2:].prod(axis=1) + box[2:].prod() - shared
    return np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)


def _centres(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, :2] + boxes[:, 2:] / 2


def _shares_centre(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether the centre of the one lies in the other, either way: bool (N,)."""
    centres, centre = _centres(boxes), box[:2] + box[2:] / 2
    in_box = ((centres >= box[:2]) & (centres <= box[:2] + box[2:])).all(axis=1)
    in_face = ((centre >= boxes[:, :2]) & (centre <= boxes[:, :2] + boxes[:, 2:])).all(axis=1)
    return in_box | in_face
