"""Reads directories that are complete or absent: `manifest.json` names all files, with their checksums.

A directory is valid if every file that its `manifest.json` names has the stated SHA-256, and the manifest has the
SHA-256 at its own end. `facerec.runs.whole_directory` writes them. The README's promise 3 rests on these two files.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from facerec.core.errors import CheckpointError
from facerec.core.file_hash import sha256_of
from facerec.core.file_kind import not_itself

MANIFEST = "manifest.json"
OWN_DIGEST = "manifest_sha256"
"""The key of the manifest's own checksum."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of a complete directory, after checking it and its files.

    Raises:
        CheckpointError: names the missing or changed file.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        own_digest = manifest.pop(OWN_DIGEST)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its {MANIFEST} cannot be read ({error!r}); not a complete checkpoint") from None
    if own_digest != digest_of(manifest):
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


def digest_of(manifest: dict[str, Any]) -> str:
    """Returns the SHA-256 of a manifest without its own."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
