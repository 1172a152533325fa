"""The tested set in constraints.txt: names and versions only, one of each, and within the ranges of pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(line.partition("==")[0]): Requirement(line) for line in LINES}
RANGES = [
    Requirement(text)
    for texts in (
        PROJECT["build-system"]["requires"],
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
    )
    for text in texts
]


def test_lines_hold_a_name_and_a_version_and_name_each_package_once():
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^@/]+)?", line), line
    assert len(PINS) == len(LINES) > 60


@pytest.mark.parametrize("wanted", [item for item in RANGES if item.name != "facerec"], ids=lambda item: item.name)
def test_every_dependency_has_a_version_within_its_range_on_every_platform(wanted):
    pin = PINS[canonicalize_name(wanted.name)]
    (version,) = pin.specifier
    assert wanted.specifier.contains(version.version) and pin.marker is None


def test_installers_are_pinned_too():
    assert {"pip", "uv", "setuptools", "editables"} <= PINS.keys()


def test_development_installs_every_extra_so_that_no_test_is_skipped_for_want_of_a_package():
    extras = PROJECT["project"]["optional-dependencies"]
    (own,) = [Requirement(text) for text in extras["dev"] if text.startswith("facerec[")]
    assert own.extras == extras.keys() - {"dev"}
