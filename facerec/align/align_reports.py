"""Writes the tables of an alignment: the aligned faces, as a table of photos, and the rejected photos with reasons."""

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
    """Writes a table of the aligned faces, which `read_photo_table` reads: photo (full path), identity, landmarks, box.

    It also has the detector's score, the number of faces that it found in the photo, the clockwise rotation of the
    photo in degrees, and the path of the crop, relative to the table's folder.
    """
    with atomic_file(path) as file:
        file.write(
            csv_row("path", "identity", *LANDMARK_COLUMNS, *BOX_COLUMNS, "score", "num_faces", "turned_deg", "crop")
        )
        for label, entry in zip(wanted.labels.tolist(), entries, strict=True):
            if entry is None or entry.reason is not None:
                continue
            photo, identity = whole_path(wanted, entry.photo), wanted.identities[label]
            box: list[Any] = [*entry.box] if entry.box else [""] * len(BOX_COLUMNS)
            num_faces = "" if entry.num_faces is None else entry.num_faces
            score = "" if entry.score is None else entry.score
            turned_deg = "" if entry.score is None else entry.turned_deg or 0
            file.write(
                csv_row(photo, identity, *(entry.landmarks or ()), *box, score, num_faces, turned_deg, entry.crop)
            )


def write_report(path: Path, wanted: WantedFaces, entries: Iterable[Entry | None], left_over: Iterable[Entry]) -> None:
    """Writes a table of the rejected photos: photo (full path), identity, reason and detail; always with its header."""
    with atomic_file(path) as file:
        file.write(csv_row("path", "identity", "reason", "detail"))
        for label, entry in zip(wanted.labels.tolist(), entries, strict=True):
            if entry is not None and entry.reason is not None:
                photo = whole_path(wanted, entry.photo)
                file.write(csv_row(photo, wanted.identities[label], entry.reason, entry.detail))
        for photo, reason, detail in wanted.left_out:
            file.write(csv_row(whole_path(wanted, photo), "", reason, detail))
        for entry in left_over:
            detail = f"the photo is not wanted any more; delete its crop {entry.crop} if you do not need it"
            file.write(csv_row(whole_path(wanted, entry.photo), "", LEFT_OVER, detail))


def whole_path(wanted: WantedFaces, photo: str) -> str:
    """Returns the full path of a photo."""
    return os.path.abspath(os.path.join(wanted.base, photo))
