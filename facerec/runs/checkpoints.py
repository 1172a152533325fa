"""Finds the checkpoints of a run: their names, and the newest complete one."""

import re
from pathlib import Path

from facerec.core.errors import CheckpointError
from facerec.runs.manifest import read_manifest


def checkpoint_name(step: int) -> str:
    """Returns the name of the checkpoint after `step` optimizer steps."""
    return f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """Returns the number of optimizer steps in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def has_only_partial(checkpoints: Path) -> bool:
    """True if the folder holds only unfinished checkpoints, or nothing at all."""
    return all(".partial-" in path.name for path in checkpoints.glob("step-*"))


def newest_whole(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """Returns the newest checkpoint whose manifest verifies, and a warning for each damaged one that was skipped."""
    warnings = []
    for path in step_directories(checkpoints)[::-1]:
        try:
            read_manifest(path)
        except CheckpointError as error:
            warnings.append(f"skipped: {error}")
        else:
            return path, warnings
    return None, warnings


def step_directories(checkpoints: Path) -> list[Path]:
    """Returns the directories `step-<number>` in a folder, by number, without partial ones."""
    found = checkpoints.glob("step-*") if checkpoints.is_dir() else []
    return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name)), key=step_of)
