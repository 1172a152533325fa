"""Directories that are whole or absent: files with checksums in a manifest, renamed into place when all are on disk.

DESIGN, promise 3. A directory is valid when every file that its `manifest.json` names has the stated SHA-256, and the
manifest itself the one that it ends with.
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

MANIFEST = "manifest.json"
_OWN_DIGEST = "manifest_sha256"
_BLOCK_BYTES = 1 << 20


@contextmanager
def whole_directory(path: Path, about: dict[str, Any]) -> Iterator[Path]:
    """Yields a partial directory to write into; on a clean exit it gets a manifest and becomes `path`.

    Args:
        path: the final name; must not exist.
        about: plain values that the manifest carries beside the checksums.

    Raises:
        CheckpointError: the disk is full, or the directory cannot be written. What was saved before is untouched.
    """
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        yield partial
        files = {
            str(file.relative_to(partial)): {"bytes": file.stat().st_size, "sha256": _sha256(file)}
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        manifest = json.loads(json.dumps({**about, "files": files}))  # as it will be read, for its digest
        (partial / MANIFEST).write_text(json.dumps({**manifest, _OWN_DIGEST: _digest_of(manifest)}, indent=1))
        for file in partial.rglob("*"):
            _sync(file)
        _sync(partial)
        os.rename(partial, path)
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(f"{path} could not be written: {error}. What was saved before is untouched") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a whole directory, after it and its files were checked.

    Raises:
        CheckpointError: names the file that is missing or changed.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        own_digest = manifest.pop(_OWN_DIGEST)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its {MANIFEST} cannot be read ({error!r}); not a whole checkpoint") from None
    if own_digest != _digest_of(manifest):
        raise CheckpointError(f"{path / MANIFEST} is not what was written (its SHA-256 differs); it is damaged")
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; the checkpoint is damaged")
        try:
            is_as_written = file.stat().st_size == expected["bytes"] and _sha256(file) == expected["sha256"]
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read ({error.strerror}); the checkpoint is damaged") from None
        if not is_as_written:
            raise CheckpointError(f"{file} is not what was written (its SHA-256 differs); the checkpoint is damaged")
    return manifest


def _digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
