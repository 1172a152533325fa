"""Writes directories that are complete or absent: a partial one is renamed when all files and checksums are on disk.

It stands apart from `facerec.runs.manifest`, because several processes may write, which needs torch; reading does not.
"""

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
from facerec.processes.agreement import failing_together
from facerec.processes.group import ALONE, Processes
from facerec.runs.manifest import MANIFEST, OWN_DIGEST, digest_of


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
                (partial / MANIFEST).write_text(json.dumps({**manifest, OWN_DIGEST: digest_of(manifest)}, indent=1))
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
