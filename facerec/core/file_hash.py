"""The SHA-256 of a file, whole and short."""

import hashlib
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """Returns the 64 hexadecimal digits of a file's SHA-256. Raises OSError if it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hash(path: Path) -> str:
    """Returns the first 12 digits of `sha256_of`, to tell files of one name and other content apart."""
    return sha256_of(path)[:12]
