"""What the tests of inspections share."""

from pathlib import Path

import cv2
import numpy as np

from facerec.inspection.findings import Finding, Findings
from facerec.inspection.whole_set import Inspection, inspect_set

SIZE_PX = 24


def png(seed: int, size: tuple[int, int] = (SIZE_PX, SIZE_PX)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def inspected(root: Path | str, **options: int) -> tuple[Inspection, list[tuple[str, str, str, str]], Findings]:
    """The inspection, its faults with the root left out of them, and the notes."""
    faults, notes = Kept(), Kept()
    inspection = inspect_set(str(root), faults, notes, num_threads=2, **options)
    folder = str(root if Path(root).is_dir() else Path(root).parent)
    return inspection, [(f.kind, f.file.removeprefix(f"{folder}/"), f.record, f.what) for f in faults.all], notes


class Kept(Findings):
    """Keeps all."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Finding] = []

    def add(self, kind: str, file: object, record: str, what: str) -> None:
        super().add(kind, file, record, what)
        self.all.append(Finding(kind, str(file), record, what))
