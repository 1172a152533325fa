"""The report of an inspection: dataset.json, a contact sheet, and the histogram of images per identity."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import facerec
from facerec.core.atomic_file import atomic_file
from facerec.inspection.findings import Findings
from facerec.inspection.survey import num_images_bins, sampled_rows
from facerec.inspection.verification_set import PairItems
from facerec.inspection.whole_set import Inspection
from facerec.plots import histogram
from facerec.plots.contact_sheet import contact_sheet

JSON_FILE, SHEET_FILE, HISTOGRAM_FILE = "dataset.json", "contact_sheet.png", "images_per_identity.png"
_WHITE = 255


def is_report(out: Path) -> bool:
    """True if a folder holds an earlier report."""
    try:
        return "fingerprint_of_images" in json.loads((out / JSON_FILE).read_text())
    except (OSError, ValueError, TypeError):
        return False


def describe(root: str, inspection: Inspection, faults: Findings, notes: Findings) -> dict[str, Any]:
    """Returns the known facts about a set, in plain values: the content of dataset.json.

    Args:
        root: path of the set.
        inspection: the set.
        faults: its faults.
        notes: further findings that are not faults.
    """
    items, found = inspection.items, inspection.found
    about: dict[str, Any] = {
        "root": str(Path(root).expanduser().resolve()),
        "kind": items.kind,
        "num_images": len(items),
        "num_usable": int(found.is_sound_N.sum()),
        "num_greyscale": int(found.is_grey_N.sum()),
        "size_px": list(items.size_px),
        "other_sizes_px": [[*size, number] for size, number in found.other_sizes(items.size_px)],
    }
    if isinstance(items, PairItems):
        about |= {"num_positive": int((items.is_same == 1).sum()), "num_negative": int((items.is_same == 0).sum())}
    else:
        _, counts = found.identities()
        about["num_identities"] = len(counts)
        if len(counts):
            about["images_per_identity"] = {
                "min": int(counts.min()),
                "median": float(np.median(counts)),
                "mean": float(counts.mean()),
                "max": int(counts.max()),
                "histogram": num_images_bins(counts),
            }
    return about | {
        "fingerprint": inspection.fingerprint,
        "fingerprint_of_images": found.fingerprint(),
        "num_faults": len(faults),
        "faults": dict(faults.counts),
        "notes": dict(notes.counts),
        "facerec": facerec.__version__,
    }


def sheet_rows(
    inspection: Inspection, *, num_identities: int, images_per_identity: int, seed: int
) -> list[tuple[str, list[np.ndarray]]]:
    """Returns the rows of the contact sheet, drawn at random: the title of each, and its images, uint8 (H, W, 3).

    Args:
        inspection: the set.
        num_identities: rows of a set; for a verification set, half of them show positive pairs, half negative ones.
        images_per_identity: the maximal number of images in a row.
        seed: seed of the draw.
    """
    items, found = inspection.items, inspection.found
    rows = []
    if isinstance(items, PairItems):
        per_row = max(1, images_per_identity // 2)
        for is_same, kind in ((True, "positive"), (False, "negative")):
            num_pairs = max(1, num_identities // 2) * per_row
            pairs = items.sampled_pairs(found, is_same=is_same, num_pairs=num_pairs, seed=seed)
            for start in range(0, len(pairs), per_row):
                row = pairs[start : start + per_row].tolist()
                images = [items.crop(2 * pair + side) for pair in row for side in (0, 1)]
                rows.append((f"{kind} pairs {', '.join(map(str, row))}", images))
        return rows
    for label, samples in sampled_rows(
        found, num_identities=num_identities, images_per_identity=images_per_identity, seed=seed
    ):
        rows.append((items.identity(label), [items.crop(index) for index in samples.tolist()]))
    return rows


def write_report(out: Path, about: dict[str, Any], rows: Sequence[tuple[str, list[np.ndarray]]]) -> list[str]:
    """Writes the files of a report, and removes files of an earlier report that this one does not have.

    Args:
        out: the folder.
        about: see `describe`.
        rows: see `sheet_rows`.

    Returns:
        The names of the files, dataset.json first.
    """
    files = [JSON_FILE]
    titles = [title for title, _ in rows]
    for name in (SHEET_FILE, HISTOGRAM_FILE):
        (out / name).unlink(missing_ok=True)
    if rows:
        columns = max(len(images) for _, images in rows)
        blank = np.full_like(rows[0][1][0], _WHITE)
        cells = [images[i] if i < len(images) else blank for _, images in rows for i in range(columns)]
        contact_sheet(np.stack(cells), columns=columns, path=out / SHEET_FILE, row_titles=titles)
        files.append(SHEET_FILE)
    if "images_per_identity" in about:
        histogram.images_per_identity(about["images_per_identity"]["histogram"], out / HISTOGRAM_FILE)
        files.append(HISTOGRAM_FILE)
    with atomic_file(out / JSON_FILE) as file:
        file.write(json.dumps(about | {"contact_sheet": titles}, indent=1).encode("utf-8", "surrogateescape"))
    return files
