"""Users of a verb see no deprecation of a dependency; developers do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.training_runs import environment

# Python imports a module of this name at its start: it stands for a dependency that warns while a verb runs.
OLD_DEPENDENCY = """
import atexit, warnings
def warn():
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.warn_explicit(f"{category.__name__} of a dependency", category, "dependency.py", 1)
    warnings.warn_explicit("UserWarning of a dependency", UserWarning, "dependency.py", 1)
atexit.register(warn)
"""
DEPRECATIONS = {f"{name}Warning of a dependency" for name in ("Deprecation", "PendingDeprecation", "Future")}


@pytest.fixture
def seen(tmp_path: Path):
    """Runs Python beside a dependency that warns; returns the exit code and the warnings that the user sees."""
    (tmp_path / "sitecustomize.py").write_text(OLD_DEPENDENCY)

    def run(*arguments: str, **variables: str) -> tuple[int, set[str]]:
        shared = {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}
        paths = os.pathsep.join([str(tmp_path), shared["PYTHONPATH"]])
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env={**shared, "PYTHONPATH": paths, **variables}, capture_output=True, text=True)
        lines = done.stderr.splitlines()
        return done.returncode, {line.partition(": ")[2].partition(": ")[2] for line in lines if "of a dep" in line}

    return run


def test_user_of_a_verb_sees_warnings_but_no_deprecation(seen):
    assert seen("-m", "facerec", "--version") == (0, {"UserWarning of a dependency"})


def test_user_of_a_launched_training_sees_no_deprecation(seen, tmp_path):
    _, warned = seen("-m", "facerec.cli.launching.worker", str(tmp_path))  # which then misses the file with its task
    assert warned == {"UserWarning of a dependency"}


def test_processes_that_a_verb_starts_show_no_deprecation(seen):
    start = """
import subprocess, sys
from facerec.cli.launching.developer_warnings import hide_developer_warnings
hide_developer_warnings()
sys.exit(subprocess.run([sys.executable, "-c", ""]).returncode)
"""
    assert seen("-c", start) == (0, {"UserWarning of a dependency"})


@pytest.mark.parametrize("switch", ["option", "variable"])
def test_developer_who_asks_python_for_warnings_sees_them_all(seen, switch):
    options, variables = (["-W", "default"], {}) if switch == "option" else ([], {"PYTHONWARNINGS": "default"})
    assert seen(*options, "-m", "facerec", "--version", **variables) == (
        0,
        DEPRECATIONS | {"UserWarning of a dependency"},
    )
