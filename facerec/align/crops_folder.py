"""The folder that `facerec align` writes into: it has one owner at a time, and crops of one kind."""

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
OWN_FOLDER = ".align"
JOURNAL_FILE = f"{OWN_FOLDER}/journal.jsonl"
JOURNAL_PARTS = f"{OWN_FOLDER}/journal.of_process_*.jsonl"
"""Of several processes that align together, until the first of them puts them into the journal."""
PARTIAL_FOLDER = f"{OWN_FOLDER}/partial"
"""Of crops that are written only in part."""


@contextmanager
def own_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Holds the folder for this process alone, once `out` is known to be new or of the same settings."""
    from filelock import FileLock, Timeout

    if (
        out.exists()
        and not (out / SUMMARY_FILE).is_file()
        and (not out.is_dir() or any(not is_litter(path.name) for path in out.iterdir()))
    ):
        raise DataError(f"{out} is there already, and not of facerec align; give a new or an empty folder")
    try:
        (out / PARTIAL_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be made ({error.strerror})") from None
    try:
        with FileLock(out / OWN_FOLDER / "lock", timeout=0):
            _check_settings(out, settings)
            if not (out / SUMMARY_FILE).is_file():
                write_summary(out, settings, None)
            yield
            shutil.rmtree(out / PARTIAL_FOLDER)
    except Timeout:
        raise ConfigError(f"out={out}: another facerec align writes there now") from None


def _check_settings(out: Path, settings: Mapping[str, Any]) -> None:
    if not (out / SUMMARY_FILE).is_file():
        return
    try:
        before = _flat(json.loads((out / SUMMARY_FILE).read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{out / SUMMARY_FILE} is not of facerec align; give a new or an empty folder") from None
    now = _flat(settings)
    changes = [
        f"{key}: {before.get(key, 'no such setting')} before, {now.get(key, 'no such setting')} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    tables = (SUMMARY_FILE, LANDMARKS_FILE, REPORT_FILE)
    if changes and not any(path.name not in tables and not is_litter(path.name) for path in out.iterdir()):
        for name in (*tables, JOURNAL_FILE):
            (out / name).unlink(missing_ok=True)  # of nothing but rejected photos
    elif changes:
        raise ConfigError(
            f"out={out} has crops that were made otherwise ({'; '.join(changes)}); give another folder, or delete it"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested settings under their whole keys, such as `detector.turns`."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def is_unfinished(out: Path) -> bool:
    """True for a folder into which `align_photos` has begun to write, and has not finished."""
    try:
        return json.loads((out / SUMMARY_FILE).read_text())["counts"] is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_summary(out: Path, settings: Mapping[str, Any], counts: Mapping[str, Any] | None) -> None:
    """Writes with what the crops are made, and the counts; None until they are all made."""
    with atomic_file(out / SUMMARY_FILE) as file:
        file.write((json.dumps({"settings": settings, "counts": counts}, indent=1) + "\n").encode())
