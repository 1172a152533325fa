"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from facerec.core.log import LOGGER

settings.register_profile("repeatable", derandomize=True, deadline=None)  # no test depends on luck or on the clock
settings.load_profile("repeatable")


PROPAGATES, LEVEL = LOGGER.propagate, LOGGER.level  # before any command line has changed them


@pytest.fixture(autouse=True)
def logger_as_at_first() -> Iterator[None]:
    """Takes back what the command line does to facerec's logger, which pytest's caplog listens to.

    Before each test too: a fixture of a module or of the session may have run the command line.
    """
    _logger_as_at_first()
    yield
    _logger_as_at_first()


def _logger_as_at_first() -> None:
    for handler in LOGGER.handlers[:]:
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.propagate = PROPAGATES
    LOGGER.setLevel(LEVEL)


@pytest.fixture
def real_data() -> Path:
    """`FACEREC_TEST_DATA`, or ../shared/data from the project's root; the test is skipped where it is absent."""
    folder = Path(os.environ.get("FACEREC_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "celeba_wild").is_dir():
        pytest.skip(f"real faces are absent: no {folder / 'celeba_wild'}; set FACEREC_TEST_DATA to the folder with it")
    return folder
