"""The tables that an alignment leaves: the faces aligned, as a table of photos, and what was rejected and why."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from facerec.align.journal import Entry
from facerec.align.photo_table import BOX_COLUMNS, LANDMARK_COLUMNS
from facerec.align.wanted_faces import WantedFaces
from facerec.core.atomic_file import atomic_file
from facerec.core.csv_lines import csv_row

LEFT_OVER = "left_over"


def write_landmarks(path: Path, wanted: WantedFaces, entries: Iterable[Entry | None]) -> None:
    """A table of the faces aligned, which `read_photo_table` reads: photo (its whole path), identity, landmarks, box.

    Beside these the detector's score, how many faces it found in the photo, by how many degrees the photo lies turned
    clockwise, and the crop, below the table's folder.
    """
    with atomic_file(path) as file:
        file.write(
            csv_row("path", "identity", *LANDMARK_COLUMNS, *BOX_COLUMNS, "score", "num_faces", "turned_deg", "crop")
        )
        for label, entry in zip(wanted.labels.tolist(), entries, strict=True):
            if entry is None or entry.reason is not None:
                continue
            photo, identity = _whole_path(wanted, entry.photo), wanted.identities[label]
            box: list[Any] = [*entry.box] if entry.box else [""] * len(BOX_COLUMNS)
            num_faces = "" if entry.num_faces is None else entry.num_faces
            score = "" if entry.score is None else entry.score
            turned_deg = "" if entry.score is None else entry.turned_deg or 0
            file.write(
                csv_row(photo, identity, *(entry.landmarks or ()), *box, score, num_faces, turned_deg, entry.crop)
            )


def write_report(path: Path, wanted: WantedFaces, entries: Iterable[Entry | None], left_over: Iterable[Entry]) -> None:
    """A table of what was rejected: photo (its whole path), identity, reason and detail; without any, its header."""
    with atomic_file(path) as file:
        file.write(csv_row("path", "identity", "reason", "detail"))
        for label, entry in zip(wanted.labels.tolist(), entries, strict=True):
            if entry is not None and entry.reason is not None:
                photo = _whole_path(wanted, entry.photo)
                file.write(csv_row(photo, wanted.identities[label], entry.reason, entry.detail))
        for photo, reason, detail in wanted.left_out:
            file.write(csv_row(_whole_path(wanted, photo), "", reason, detail))
        for entry in left_over:
            detail = f"the photo is wanted no longer; delete its crop {entry.crop} if that should go too"
            file.write(csv_row(_whole_path(wanted, entry.photo), "", LEFT_OVER, detail))


def _whole_path(wanted: WantedFaces, photo: str) -> str:
    return os.path.abspath(os.path.join(wanted.base, photo))
