"""Tables about the choice of faces: photos with several faces, and crops that look unlike their identity's others."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from facerec.align.align_reports import whole_path
from facerec.align.candidate_faces import DoubtfulCrop, FaceChoice
from facerec.align.faces import overlaps
from facerec.align.journal import Entry, Journal
from facerec.align.photo_table import BOX_COLUMNS
from facerec.align.wanted_faces import WantedFaces
from facerec.core.atomic_file import atomic_file
from facerec.core.csv_lines import csv_row
from facerec.core.string_table import StringTable

ABOUT_AS_LARGE = 0.5
"""Another face with this share of the area of the taken one may be the wanted one."""


def write_several(
    path: Path,
    wanted: WantedFaces,
    names: StringTable,
    journal: Journal,
    *,
    rule: str,
    choices: Mapping[int, FaceChoice],
) -> int:
    """Writes a table of the aligned photos with several faces: which one was taken, and why.

    Photos in which another face is almost as large, or larger, come first. Without `choices`, the cosines are empty.

    Returns:
        The number of photos in which another face has `ABOUT_AS_LARGE` of the area.
    """
    sizes = [
        (-_next_size(entry), number)
        for number, entry in enumerate(journal.read(names))
        if entry is not None and entry.reason is None and (entry.num_faces or 0) > 1
    ]
    sizes.sort()
    with atomic_file(path) as file:
        file.write(
            csv_row("path", "identity", "num_faces", "next_size", "cosine", "next_cosine", "why", *BOX_COLUMNS, "crop")
        )
        for (size, number), entry in zip(sizes, journal.read(names[number] for _, number in sizes), strict=True):
            assert entry is not None and entry.box is not None
            choice = choices.get(number)
            cosines = ("", "") if choice is None else (f"{choice.cosine:.2f}", f"{choice.next_cosine:.2f}")
            box = None if wanted.boxes is None else wanted.boxes[number]
            why = _why_by_rule(entry, rule, box) if choice is None else _why_by_model(choice, rule)
            photo, identity = whole_path(wanted, entry.photo), wanted.identities[wanted.labels[number]]
            given = (entry.num_faces, f"{-size:.2f}", *cosines, why, *entry.box, entry.crop)
            file.write(csv_row(photo, identity, *given))
    return sum(-size >= ABOUT_AS_LARGE for size, _ in sizes)


def write_doubtful(path: Path, wanted: WantedFaces, names: StringTable, doubtful: Sequence[DoubtfulCrop]) -> None:
    """Writes a table of crops that look unlike their identity's others; always with its header."""
    with atomic_file(path) as file:
        file.write(csv_row("path", "identity", "cosine", "like", "like_cosine", "score", "crop"))
        for one in doubtful:
            photo, identity = wanted.paths[one.number], wanted.identities[wanted.labels[one.number]]
            values = (f"{one.cosine:.2f}", one.like, f"{one.like_cosine:.2f}", f"{one.score:.3f}")
            file.write(csv_row(whole_path(wanted, photo), identity, *values, names[one.number]))


def _boxes(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """Returns the box of the taken face (4,), and those of the others (n, 4), the best by the rule first."""
    boxes = np.array([values[1:5] for values in entry.faces or [[0.0] * 5]])
    is_taken = np.arange(len(boxes)) == (entry.taken or 0)
    return boxes[is_taken][0], boxes[~is_taken]


def _next_size(entry: Entry) -> float:
    """Returns the area of the largest other face, as a share of that of the taken face."""
    taken, others = _boxes(entry)
    return float(others[:, 2:].prod(axis=1).max(initial=0.0) / max(taken[2:].prod(), 1e-9))


def _why_by_model(choice: FaceChoice, rule: str) -> str:
    photos = "photo" if choice.num_others == 1 else "photos"
    why = f"cosine {choice.cosine:.2f} to the {choice.num_others} {photos} of the identity with one face"
    return f"{why}, the other faces have up to {choice.next_cosine:.2f}" + (
        "" if choice.is_first else f"; choose={rule} alone takes another face"
    )


def _why_by_rule(entry: Entry, rule: str, wanted_box: np.ndarray | None) -> str:
    if entry.faces is None:  # of a version that did not store the faces
        return ""
    taken, others = _boxes(entry)
    if rule == "nearest_box":
        assert wanted_box is not None
        shared = overlaps(np.array([taken, *others]), wanted_box)
        rest = f", the next {shared[1]:.2f}" if len(others) else ", and the only one there"
        return f"overlaps the wanted box by {shared[0]:.2f}{rest}"
    if rule == "central":
        assert entry.photo_size_px is not None
        distances = [_distance_px(box, entry.photo_size_px) for box in (taken, *others)]
        is_best, why = distances[0] <= min(distances), f"{distances[0]:.0f} pixels from the photo's centre"
        why += f", the next {min(distances[1:]):.0f}"
    else:
        is_best = bool((taken[2:].prod() >= others[:, 2:].prod(axis=1)).all())
        largest = others[others[:, 2:].prod(axis=1).argmax(), 2:]
        why = f"{taken[2]:.0f} x {taken[3]:.0f} pixels, the next {largest[0]:.0f} x {largest[1]:.0f}"
    if is_best:
        return why
    return f"{why}; that one has invalid landmarks, or is cut by the photo's edge and has a lower score"


def _distance_px(box: np.ndarray, photo_size_px: Sequence[int]) -> float:
    height, width = photo_size_px
    return math.hypot(box[0] + box[2] / 2 - width / 2, box[1] + box[3] / 2 - height / 2)
