"""A file is whole or absent."""

import errno

import pytest

from facerec.core.atomic_file import atomic_file


def test_file_appears_at_the_end_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_the_older_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_error_of_the_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as raised, atomic_file(tmp_path / "result.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(tmp_path / "result.json")
    with pytest.raises(FileNotFoundError) as raised, atomic_file(tmp_path / "nowhere" / "result.json"):
        pass
    assert raised.value.filename == str(tmp_path / "nowhere" / "result.json")
    with pytest.raises(OSError) as raised, atomic_file(tmp_path / "result.json"):
        raise OSError(errno.EIO, "Input/output error", "elsewhere")
    assert raised.value.filename == "elsewhere"
