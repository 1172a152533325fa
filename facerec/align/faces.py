"""The faces that a detector finds in a photo, and the rules by which one of them is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from facerec.align.landmark_checks import geometry
from facerec.core.errors import ConfigError

CHOICES = ("largest", "central", "nearest_box")
MUCH_BORDER = 0.4
"""Of the crop. Faces of LFW cut down to a half have up to 0.35; hair and wall that pass for a face, 0.52."""


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
    """A detector that also takes a second look at the one face that was chosen."""

    def nearer_landmarks(self, photo: np.ndarray, faces: Faces, number: int) -> np.ndarray:
        """The landmarks of face `number` of those found in the photo, float64 (5, 2)."""
        ...


def ranked_faces(
    faces: Faces, *, rule: str, photo_size_px: tuple[int, int], wanted_box: np.ndarray | None = None
) -> list[int]:
    """Returns the numbers of the faces that may be taken, the best first; of equals the surest, then the first.

    With `largest` and `central`, a face of whose crop more than `MUCH_BORDER` lies outside the photo comes after all
    others if a sound face with less of it has a higher score: at a photo's edge detectors find faces that are none.

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
        return []
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
    # A box says which face is wanted: it gives way to none.
    gives_way = np.zeros(len(faces), dtype=bool) if rule == "nearest_box" else _gives_way(faces, photo_size_px)
    may_be_taken = [number for number in range(len(faces)) if merits[number] > -np.inf]
    return sorted(may_be_taken, key=lambda number: (gives_way[number], -merits[number], -faces.scores[number], number))


def _gives_way(faces: Faces, photo_size_px: tuple[int, int]) -> np.ndarray:
    """True for faces with much border where a surer one has little: bool (N,)."""
    found = geometry(faces.landmarks, [photo_size_px] * len(faces))
    has_much_border = ~(found.border <= MUCH_BORDER)
    others = faces.scores[found.is_sound & ~has_much_border]
    return has_much_border & (faces.scores < others.max(initial=-np.inf))


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
