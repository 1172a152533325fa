"""Files that systems leave are known by name."""

from pathlib import Path

import pytest

from facerec.core.litter import files_with_suffix, is_litter


@pytest.mark.parametrize("name", [".DS_Store", "._a.jpg", "__MACOSX", "Thumbs.db", "DESKTOP.INI", "@eaDir"])
def test_what_systems_leave_is_litter(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize("name", ["Ann", "thumbs.jpg", "MACOSX", "a.db", "desktop"])
def test_what_users_name_is_not(name: str) -> None:
    assert not is_litter(name)


def test_files_with_a_suffix_are_those_that_users_made(tmp_path: Path) -> None:
    for name in ("b.bin", "a.bin", "._a.bin", "a.rec"):
        (tmp_path / name).touch()
    assert [path.name for path in files_with_suffix(tmp_path, ".bin")] == ["a.bin", "b.bin"]
