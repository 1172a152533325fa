"""The folder that `facerec align` writes into: it has one owner at a time, and crops of one kind only."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, DataError
from facerec.core.litter import is_litter

SUMMARY_FILE, LANDMARKS_FILE, REPORT_FILE = "align.json", "landmarks.csv", "report.csv"
SEVERAL_FILE, DOUBTFUL_FILE = "several_faces.csv", "doubtful.csv"
OWN_FOLDER = ".align"
JOURNAL_FILE = f"{OWN_FOLDER}/journal.jsonl"
JOURNAL_PARTS = f"{OWN_FOLDER}/journal.of_process_*.jsonl"
"""Holds the journals of several processes until the first of them adds them to the journal."""
PARTIAL_FOLDER = f"{OWN_FOLDER}/partial"
"""Holds crops that are only partly written."""
JUDGE_FOLDER = f"{OWN_FOLDER}/compared"
"""Holds the embeddings of the faces that a model compares."""


@contextmanager
def own_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Locks the folder for this process, after checking that `out` is new or has the same settings."""
    from filelock import FileLock, Timeout

    if (
        out.exists()
        and not (out / SUMMARY_FILE).is_file()
        and (not out.is_dir() or any(not is_litter(path.name) for path in out.iterdir()))
    ):
        raise DataError(f"{out} already exists, and facerec align did not write it; give a new or an empty folder")
    try:
        (out / PARTIAL_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: the folder cannot be made ({error.strerror})") from None
    try:
        with FileLock(out / OWN_FOLDER / "lock", timeout=0):
            _check_settings(out, settings)
            if not (out / SUMMARY_FILE).is_file():
                write_summary(out, settings, None)
            yield
            shutil.rmtree(out / PARTIAL_FOLDER)
    except Timeout:
        raise ConfigError(f"out={out}: another facerec align is writing to it") from None


def _check_settings(out: Path, settings: Mapping[str, Any]) -> None:
    if not (out / SUMMARY_FILE).is_file():
        return
    try:
        before = _flat(json.loads((out / SUMMARY_FILE).read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"facerec align did not write {out / SUMMARY_FILE}; give a new or an empty folder") from None
    now = _flat(settings)
    changes = [
        f"{key}: {before.get(key, 'no such setting')} before, {now.get(key, 'no such setting')} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    tables = (SUMMARY_FILE, LANDMARKS_FILE, REPORT_FILE, SEVERAL_FILE, DOUBTFUL_FILE)
    if changes and not any(path.name not in tables and not is_litter(path.name) for path in out.iterdir()):
        for name in (*tables, JOURNAL_FILE):
            (out / name).unlink(missing_ok=True)  # the folder holds only rejected photos
        for path in out.glob(JOURNAL_PARTS):
            path.unlink()
    elif changes:
        raise ConfigError(
            f"out={out} has crops of other settings ({'; '.join(changes)}); give another folder, or delete it"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested settings under their full keys, such as `detector.turns`."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def is_unfinished(out: Path) -> bool:
    """True for a folder in which `align_photos` has started, and has not finished."""
    try:
        return json.loads((out / SUMMARY_FILE).read_text())["counts"] is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_summary(out: Path, settings: Mapping[str, Any], counts: Mapping[str, Any] | None) -> None:
    """Writes the settings of the crops, and the counts; the counts are None until all crops are made."""
    with atomic_file(out / SUMMARY_FILE) as file:
        file.write((json.dumps({"settings": settings, "counts": counts}, indent=1) + "\n").encode())
