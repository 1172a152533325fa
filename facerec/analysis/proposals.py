"""Proposed changes of a data set: as a CSV that a person reads and edits, and as the labels after the changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facerec.core.atomic_file import atomic_file
from facerec.core.csv_lines import csv_lines, csv_row
from facerec.core.errors import DataError

COLUMNS = ("kind", "action", "image", "identity", "to", "score", "path", "like", "why")
DROP, MOVE, MERGE, DROP_IDENTITY = "drop", "move", "merge", "drop_identity"
OF_IMAGES, OF_IDENTITIES = (DROP, MOVE), (MERGE, DROP_IDENTITY)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One line of the CSV.

    Attributes:
        kind: kind of the case: unreadable, mislabelled, two_people, one_person, duplicate, in_benchmark.
        action: drop or move an image; merge an identity with another, or drop all of it.
        image: the image's number, or None for a whole identity.
        identity: the name of the identity, or of the image's identity.
        to: the name of the identity that an image is moved to (a new identity if there is none of that name), or that
            an identity is merged with; for `drop`, the identity that the image looks most like; else empty.
        score: 0 .. 1, the certainty.
        path: the path of the image; for in_benchmark, the benchmark.
        like: the number of the image that a duplicate is like; for in_benchmark, of the benchmark's image. Else None.
        why: the figures behind the proposal.
    """

    kind: str
    action: str
    identity: str
    score: float
    image: int | None = None
    to: str = ""
    path: str = ""
    like: int | None = None
    why: str = ""


def write_proposals(path: Path, proposals: Iterable[Proposal]) -> None:
    """Writes a CSV with `COLUMNS`, in the given order."""
    with atomic_file(path) as file:
        file.write(csv_row(*COLUMNS))
        for one in proposals:
            cells = {**vars(one), "score": f"{one.score:.3f}"}
            file.write(csv_row(*(cells[column] for column in COLUMNS)))


def read_proposals(path: Path) -> list[Proposal]:
    """Reads a file of `write_proposals` after a person has edited it: removed lines, changed actions and targets.

    Raises:
        DataError: the file or a column is missing, or a line does not fit; names the line.
    """
    if not path.exists():
        raise DataError(f"{path}: cannot be read (No such file or directory); run clean without apply=true first")
    lines = csv_lines(path, columns=COLUMNS, numbers=("score",))
    return [_proposal(cells, where=f"{path}, line {line}") for line, cells in lines]


def _proposal(cells: dict[str, str], *, where: str) -> Proposal:
    cells = {name: cell.strip() for name, cell in cells.items()}
    action, image = cells["action"], _number(cells["image"])
    if action not in OF_IMAGES + OF_IDENTITIES:
        raise DataError(f"{where}: action {action!r}; expected {', '.join(OF_IMAGES + OF_IDENTITIES)}")
    if (action in OF_IMAGES) != (image is not None):
        raise DataError(
            f"{where}: action {action} with image {cells['image'][:40]!r}; drop and move take the number of an image"
        )
    if action in (MOVE, MERGE) and not cells["to"]:
        raise DataError(f"{where}: action {action} without a name in the column to")
    try:
        score = float(cells["score"])
    except ValueError:
        raise DataError(f"{where}: score {cells['score']!r} is not a number") from None
    numbers = {"image": image, "like": _number(cells["like"]), "score": score}
    return Proposal(**{**cells, **numbers})  # type: ignore[arg-type]


def _number(cell: str) -> int | None:
    """Returns the number of an image; Python refuses to read thousands of digits."""
    return int(cell) if cell.isdecimal() and len(cell) < 19 else None


def applied(
    proposals: Sequence[Proposal], labels: np.ndarray, identities: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the set after the changes.

    An image that is dropped once is dropped, whatever the other lines say; an image that is moved follows the lines
    about its new identity.

    Args:
        proposals: the changes.
        labels: int64 (N,).
        identities: the names, in the order of the labels.

    Returns:
        int64 (n,): the images that stay; int64 (N,): labels, valid for the images that stay; the names of the
        identities, in the order of these labels.

    Raises:
        DataError: the set does not have an image or an identity; or an image is moved to two identities.
    """
    names = list(identities)
    number_of = {name: number for number, name in enumerate(names)}
    labels, stays = labels.copy(), np.ones(len(labels), dtype=bool)
    moved: dict[int, str] = {}
    for one in proposals:
        if one.identity not in number_of or (one.image is not None and one.image >= len(labels)):
            raise DataError(
                f"a proposal is about image {one.image} of {one.identity!r}, which the set does not have; it belongs "
                "to another set"
            )
        if one.action == MOVE and moved.setdefault(int(one.image or 0), one.to) != one.to:
            raise DataError(
                f"image {one.image} has proposals to move to {moved[int(one.image or 0)]!r} and to {one.to!r}"
            )
    for image, to in moved.items():
        if to not in number_of:
            number_of[to] = len(names)
            names.append(to)
        labels[image] = number_of[to]
    into = np.arange(len(names))
    for one in proposals:
        if one.action == MERGE:
            if one.to not in number_of:
                raise DataError(f"{one.identity!r} is to be merged with {one.to!r}, which the set does not have")
            first, second = _end(into, number_of[one.identity]), _end(into, number_of[one.to])
            into[first] = second
    ends = np.array([_end(into, number) for number in range(len(names))])
    labels = ends[labels]
    for one in proposals:
        if one.action == DROP:
            stays[int(one.image or 0)] = False
        elif one.action == DROP_IDENTITY:
            stays &= labels != ends[number_of[one.identity]]
    return np.flatnonzero(stays), labels, names


def _end(into: np.ndarray, number: int) -> int:
    while into[number] != number:
        number = int(into[number])
    return number
