"""Draws the pictures beside the proposals of `facerec clean`: the doubtful images, next to the ones to compare with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from facerec.analysis.cleaning import Cleaner
from facerec.analysis.proposals import Proposal
from facerec.core.errors import DataError
from facerec.core.protocols import Images
from facerec.core.source import Source
from facerec.plots.contact_sheet import contact_sheet

COLUMNS = 9
"""Four images on the left, a gap, four on the right; of duplicates, pairs side by side."""


def write_pictures(
    source: Source,
    proposals: Sequence[Proposal],
    out: Path,
    *,
    cleaner: Cleaner,
    num_examples: int,
    benchmarks: Mapping[str, Images],
) -> Iterator[Path]:
    """Writes <kind>.png for each kind with proposals, the most certain first; yields the paths.

    Above each row is its line in the file of proposals, whose first line is the header.
    """
    line_of = {id(one): line for line, one in enumerate(proposals, start=2)}
    number_of = {name: number for number, name in enumerate(cleaner.identities)}
    duplicates = [one for one in proposals if one.kind == "duplicate"][: 4 * num_examples]
    if duplicates:
        images = np.stack([source.image(number) for one in duplicates for number in (one.image or 0, one.like or 0)])
        lines = [f"line {line_of[id(one)]}, {one.identity}" for one in duplicates]
        titles = [";   ".join(lines[start : start + 4]) for start in range(0, len(lines), 4)]
        contact_sheet(images, columns=8, path=out / "duplicate.png", row_titles=titles)
        yield out / "duplicate.png"
    for kind in ("mislabelled", "two_people", "one_person"):
        shown: list[Proposal] = []
        rows: list[tuple[list[int], list[int]]] = []
        seen: set[int | str | None] = set()
        for one in proposals:
            about = one.image if kind == "mislabelled" else one.identity
            if one.kind != kind or about in seen or len(rows) >= num_examples:
                continue
            seen.add(about)
            shown.append(one)
            rows.append(_row(one, proposals, cleaner, number_of))
        if rows:
            path = out / f"{kind}.png"
            sheets = [
                _sheet(_readable(source, left), _readable(source, right), size_px=source.size_px)
                for left, right in rows
            ]
            titles = [f"line {line_of[id(one)]}: {_title(one)}; score {one.score:.2f}" for one in shown]
            contact_sheet(np.concatenate(sheets), columns=COLUMNS, path=path, row_titles=titles)
            yield path
    occurring = [one for one in proposals if one.kind == "in_benchmark"]
    occurring = sorted(occurring, key=lambda one: -one.score)[:num_examples]
    if occurring:
        sheets = [
            _sheet(
                _readable(source, _central(cleaner, number_of[one.identity])),
                [benchmarks[one.path].image(one.like or 0)],
                size_px=source.size_px,
            )
            for one in occurring
        ]
        titles = [f"line {line_of[id(one)]}: {_title(one)}; score {one.score:.2f}" for one in occurring]
        contact_sheet(np.concatenate(sheets), columns=COLUMNS, path=out / "in_benchmark.png", row_titles=titles)
        yield out / "in_benchmark.png"


def _title(one: Proposal) -> str:
    """Returns the titles of the left and the right side."""
    return {
        "mislabelled": f"the image, and {one.identity} | {one.to}",
        "two_people": f"{one.identity} | its images that stand apart, and the lines after this one",
        "one_person": f"{one.identity} | {one.to}",
        "in_benchmark": f"{one.identity} | image {one.like} of {one.path}",
    }[one.kind]


def _row(
    one: Proposal, proposals: Sequence[Proposal], cleaner: Cleaner, number_of: dict[str, int]
) -> tuple[list[int], list[int]]:
    """Returns the numbers of the images on the left and on the right."""
    own = _central(cleaner, number_of[one.identity])
    if one.kind == "mislabelled":
        return [int(one.image or 0), *[image for image in own if image != one.image][:3]], _central(
            cleaner, number_of[one.to]
        )
    if one.kind == "one_person":
        return own, _central(cleaner, number_of[one.to])
    apart = [int(other.image or 0) for other in proposals if other.kind == one.kind and other.identity == one.identity]
    return [image for image in own if image not in apart], apart[:4]


def _central(cleaner: Cleaner, identity: int, number: int = 4) -> list[int]:
    """Returns the images of an identity that are nearest to its centre."""
    images = cleaner.centres.images(identity)
    return images[np.argsort(-cleaner.places.own_N[images], kind="stable")][:number].tolist()


def _readable(source: Source, numbers: Sequence[int]) -> list[np.ndarray]:
    images = []
    for number in numbers:
        try:
            images.append(source.image(number))
        except DataError:
            continue
    return images


def _sheet(left: Sequence[np.ndarray], right: Sequence[np.ndarray], *, size_px: tuple[int, int]) -> np.ndarray:
    """Returns uint8 (9, H, W, 3): four on the left, white, four on the right; white if there are fewer."""
    sheet = np.full((COLUMNS, *size_px, 3), 255, dtype=np.uint8)
    for first, images in ((0, left), (5, right)):
        for place, image in enumerate(images[:4]):
            sheet[first + place] = image
    return sheet
