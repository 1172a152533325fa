"""The SHA-256 of a file."""

from pathlib import Path

from facerec.core.file_hash import file_hash, sha256_of


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, the example of SHA-256
    assert sha256_of(tmp_path / "a") == digest
    assert file_hash(tmp_path / "a") == digest[:12]
