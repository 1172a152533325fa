"""Finds the checkpoints of a run: their names, the newest complete one, and the best."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from facerec.core.errors import CheckpointError, ConfigError
from facerec.core.metric import Metric, metrics_from, quality
from facerec.runs.manifest import MANIFEST, read_manifest

CARD_FILE = "model.json"
"""The description of a checkpoint's model."""


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


def own_metrics(checkpoint: Path) -> list[Metric]:
    """Returns the metrics that were measured at the checkpoint's own step; empty if it was not evaluated there."""
    try:
        stored = json.loads((checkpoint / MANIFEST).read_text())
        if stored["metrics_step"] != stored["step"]:
            return []
        return metrics_from(stored["metrics"], stored.get("metric_details"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def best_first(checkpoints: Sequence[Path], *, best_metric: str | None) -> list[Path]:
    """Returns those of the checkpoints that were evaluated, the best first; of equals the newer one first.

    Args:
        checkpoints: the directories.
        best_metric: see `quality`; checkpoints without that metric are left out.
    """
    scores = {}
    for path in checkpoints:
        with suppress(ConfigError):
            if (score := quality(own_metrics(path), best_metric=best_metric)) is not None:
                scores[path] = score
    return sorted(scores, key=lambda path: (scores[path], path.name), reverse=True)


def step_directories(checkpoints: Path) -> list[Path]:
    """Returns the directories `step-<number>` in a folder, by number, without partial ones."""
    found = checkpoints.glob("step-*") if checkpoints.is_dir() else []
    return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name)), key=step_of)


def packages_of(checkpoints: Path) -> list[str]:
    """Returns the packages, other than facerec, whose classes the model of a run names; empty without a checkpoint."""
    try:
        card = json.loads((step_directories(checkpoints)[-1] / CARD_FILE).read_text())
        paths = [card[part]["class"] for part in ("backbone", "neck") if "class" in card[part]]
        return list(dict.fromkeys(path.partition(".")[0] for path in paths))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
