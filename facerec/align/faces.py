"""The faces that a detector finds in a photo, and the rules that choose one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from facerec.align.landmark_checks import geometry
from facerec.core.errors import ConfigError, FacerecError
from facerec.core.part_check import check_part, is_of_facerec, part_error

CHOICES = ("largest", "central", "nearest_box")
MUCH_BORDER = 0.4
"""Share of the crop. Faces of LFW cut in half have up to 0.35; false faces in hair and walls have 0.52."""


@dataclass(frozen=True, kw_only=True)
class Faces:
    """N faces of one photo, in its pixels.

    Attributes:
        boxes: float64 (N, 4): left, top, width, height.
        landmarks: float64 (N, 5, 2), x and y: left eye, right eye, nose, left and right mouth corner, in the image's
            left and right.
        scores: float64 (N,); a higher score is more certain.
        turned_deg: 0, 90, 180 or 270: the clockwise rotation of the photo, derived from its faces.
        searched: how the photo was searched, if nothing was found; for the report.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray
    turned_deg: int = 0
    searched: str = ""

    def __len__(self) -> int:
        return len(self.boxes)


class Detector(Protocol):
    """Any callable that finds faces. Several threads call it concurrently, unless num_threads is 1."""

    def __call__(self, photos: Sequence[np.ndarray]) -> Sequence[Faces]:
        """Returns the faces of each photo, uint8 (H, W, 3), RGB; the photos may differ in size."""
        ...


def check_detector(detector: Any) -> None:
    """Refuses a detector of the user's own class that cannot be called as a `Detector`, or does not return `Faces`.

    A grey photo is tried.

    Raises:
        ConfigError: names the class and everything that is wrong.
    """
    check_part(detector, Detector, key="detector", kind="detector")
    if is_of_facerec(detector):
        return
    photo = np.full((128, 160, 3), 128, dtype=np.uint8)
    try:
        found = list(detector([photo]))
    except FacerecError:
        raise
    except Exception as error:  # whatever the user's code raises
        faults = [f"it fails on a grey photo ({type(error).__name__}: {error})"]
    else:
        faults = [*_result_faults(found)]
    if faults:
        raise part_error(detector, faults, key="detector", kind="detector")


def _result_faults(found: list[Any]) -> Iterator[str]:
    if len(found) != 1 or not isinstance(found[0], Faces):
        yield f"it returns {len(found)} results for one photo, {found!r:.60}; expected one {Faces.__module__}.Faces"
        return
    faces = found[0]
    for name, rest in (("boxes", (4,)), ("landmarks", (5, 2)), ("scores", ())):
        shape, expected = np.shape(getattr(faces, name)), (len(faces), *rest)
        if shape != expected:
            yield f"{name} of its Faces has the shape {shape}; expected {expected} for {len(faces)} faces"


@runtime_checkable
class LooksAgain(Protocol):
    """A detector that can also detect the landmarks of the chosen face again."""

    def nearer_landmarks(self, photo: np.ndarray, faces: Faces, number: int) -> np.ndarray:
        """Returns the landmarks of face `number` of the photo's faces, float64 (5, 2)."""
        ...


def ranked_faces(
    faces: Faces, *, rule: str, photo_size_px: tuple[int, int], wanted_box: np.ndarray | None = None
) -> list[int]:
    """Returns the numbers of the allowed faces, the best first; equal ones by score, then by number.

    With `largest` and `central`, a face with more than `MUCH_BORDER` of its crop outside the photo comes last if a
    valid face with less border has a higher score: at a photo's edge, detectors find false faces.

    Args:
        faces: N faces, N >= 0.
        rule: `largest`: the box with the largest area; `central`: the box whose centre is nearest to the photo's;
            `nearest_box`: the largest overlap (intersection over union) with `wanted_box`, among faces whose centre is
            in it or whose box contains its centre.
        photo_size_px: height and width of the photo.
        wanted_box: (4,): left, top, width, height; for `nearest_box`.

    Raises:
        ConfigError: the rule does not exist, or a box is missing.
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
    # A box says which face is wanted, so no other face goes first.
    gives_way = np.zeros(len(faces), dtype=bool) if rule == "nearest_box" else _gives_way(faces, photo_size_px)
    may_be_taken = [number for number in range(len(faces)) if merits[number] > -np.inf]
    return sorted(may_be_taken, key=lambda number: (gives_way[number], -merits[number], -faces.scores[number], number))


def _gives_way(faces: Faces, photo_size_px: tuple[int, int]) -> np.ndarray:
    """True for faces with much border if a face with a higher score has little: bool (N,)."""
    found = geometry(faces.landmarks, [photo_size_px] * len(faces))
    has_much_border = ~(found.border <= MUCH_BORDER)
    others = faces.scores[found.is_sound & ~has_much_border]
    return has_much_border & (faces.scores < others.max(initial=-np.inf))


def overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of N boxes, (N, 4) left, top, width, height, with another: float64 (N,)."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = boxes[:, 2:].prod(axis=1) + box[2:].prod() - shared
    return np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)


def _centres(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, :2] + boxes[:, 2:] / 2


def _shares_centre(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """True if the centre of one box is in the other, in either direction: bool (N,)."""
    centres, centre = _centres(boxes), box[:2] + box[2:] / 2
    in_box = ((centres >= box[:2]) & (centres <= box[:2] + box[2:])).all(axis=1)
    in_face = ((centre >= boxes[:, :2]) & (centre <= boxes[:, :2] + boxes[:, 2:])).all(axis=1)
    return in_box | in_face
