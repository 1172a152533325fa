"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """`FACEREC_TEST_DATA`, or ../shared/data from the project's root; the test is skipped where it is absent."""
    folder = Path(os.environ.get("FACEREC_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "celeba_wild").is_dir():
        pytest.skip(f"real faces are absent: no {folder / 'celeba_wild'}; set FACEREC_TEST_DATA to the folder with it")
    return folder
