"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from facerec.core.log import LOGGER

settings.register_profile("repeatable", derandomize=True)  # a run of the tests never depends on luck
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """Takes back what the command line does to facerec's logger, which pytest's caplog listens to."""
    handlers, propagate, level = LOGGER.handlers[:], LOGGER.propagate, LOGGER.level
    yield
    for handler in set(LOGGER.handlers) - set(handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.propagate = propagate
    LOGGER.setLevel(level)


@pytest.fixture
def real_data() -> Path:
    """`FACEREC_TEST_DATA`, or ../shared/data from the project's root; the test is skipped where it is absent."""
    folder = Path(os.environ.get("FACEREC_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "celeba_wild").is_dir():
        pytest.skip(f"real faces are absent: no {folder / 'celeba_wild'}; set FACEREC_TEST_DATA to the folder with it")
    return folder
