"""Directories that are complete or absent: files with checksums in a manifest, renamed when all are on disk.

A directory is valid if every file that its `manifest.json` names has the stated SHA-256, and the manifest has the
SHA-256 at its own end. The README's promise 3 rests on this file.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facerec.core.errors import CheckpointError
from facerec.core.file_hash import sha256_of
from facerec.core.file_kind import not_itself
from facerec.processes.agreement import failing_together
from facerec.processes.group import ALONE, Processes

MANIFEST = "manifest.json"
_OWN_DIGEST = "manifest_sha256"


@contextmanager
def whole_directory(
    path: Path, about: dict[str, Any], *, needed_bytes: int = 0, processes: Processes = ALONE
) -> Iterator[Path]:
    """Yields a partial directory to write into; on a clean exit it gets a manifest and becomes `path`.

    Args:
        path: the final name; must not exist.
        about: plain values that the manifest holds besides the checksums.
        needed_bytes: number of bytes that this process will write, for the message about a full disk.
        processes: all processes that write into it; all must call this, each computes the checksums of a part of the
            files, and none returns before the directory has its final name.

    Raises:
        CheckpointError: the disk is full, or this process cannot write or see the directory; the other processes raise
            an OtherProcessError. Everything that was saved before is unchanged.
    """
    name = processes.gather_objects(f"{path.name}.partial-{uuid.uuid4().hex[:8]}")[0]
    partial = path.with_name(name)
    needed = sum(processes.gather_objects(needed_bytes))
    free = needed
    try:
        with _together(path, processes):
            if processes.is_first:
                partial.mkdir(parents=True)
        with _together(path, processes):
            if not partial.is_dir():
                raise CheckpointError(
                    f"{partial}: process 0 made it, but process {processes.rank} does not see it; all machines must "
                    "see the same run_dir"
                )
            free = shutil.disk_usage(partial).free
        with _together(path, processes):
            yield partial
        own: dict[str, Any] = {}
        with _together(path, processes):
            files = sorted(file for file in partial.rglob("*") if file.is_file())
            for file in files[processes.rank :: processes.world_size]:
                own[str(file.relative_to(partial))] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
                _sync(file)
        parts = processes.gather_objects(own)
        with _together(path, processes):
            if processes.is_first:
                named = sorted(pair for part in parts for pair in part.items())
                manifest = json.loads(json.dumps({**about, "files": dict(named)}))  # in its read form, for its digest
                (partial / MANIFEST).write_text(json.dumps({**manifest, _OWN_DIGEST: _digest_of(manifest)}, indent=1))
                for entry in (partial / MANIFEST, *(sub for sub in partial.rglob("*") if sub.is_dir()), partial):
                    _sync(entry)
                os.rename(partial, path)
                _sync(path.parent)
    except BaseException as error:
        if processes.is_first:
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, CheckpointError) and free < needed:
            needed_gb, free_gb = needed / 1e9, free / 1e9
            raise CheckpointError(
                f"{error}. {needed_gb:.2f} GB are needed and {free_gb:.2f} GB free, so {needed_gb - free_gb:.2f} GB "
                "are missing"
            ) from error
        raise


@contextmanager
def _together(path: Path, processes: Processes) -> Iterator[None]:
    """Finishes on all processes, or raises on all if one cannot write."""
    with failing_together(processes):
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"{path} could not be written: {error}. What was saved before is untouched"
            ) from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of a complete directory, after checking it and its files.

    Raises:
        CheckpointError: names the missing or changed file.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        own_digest = manifest.pop(_OWN_DIGEST)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its {MANIFEST} cannot be read ({error!r}); not a complete checkpoint") from None
    if own_digest != _digest_of(manifest):
        raise CheckpointError(f"{path / MANIFEST} is not what was written (its SHA-256 differs); it is damaged")
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; the checkpoint is damaged")
        try:
            is_as_written = file.stat().st_size == expected["bytes"] and sha256_of(file) == expected["sha256"]
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read ({error.strerror}); the checkpoint is damaged") from None
        if not is_as_written:
            reason = f": {fault}" if (fault := not_itself(file)) is not None else ""
            raise CheckpointError(
                f"{file} is not what was written (its SHA-256 differs); the checkpoint is damaged{reason}"
            )
    return manifest


def _digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
