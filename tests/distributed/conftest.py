"""Fixtures of the launched trainings: their data, and what they are compared with."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.distributed.launches import launch_overrides, torchrun
from tests.integration.training_runs import Starter, result_bits, run, write_faces


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces") / "set")


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter() as ready:
        yield ready


@pytest.fixture(scope="session")
def torchrun_bits(faces, tmp_path_factory) -> dict[str, str]:
    """What two processes make of the faces when torchrun starts them and nothing happens; trained once for all tests,
    those of other pytest-xdist processes too."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    file, run_dir = folder / "torchrun_bits.json", folder / "torchrun"
    with FileLock(folder / "torchrun.lock"):
        if not file.exists():
            run(torchrun, launch_overrides(faces, run_dir, "launch.processes=null"), run_dir.with_suffix(".log"))
            file.write_text(json.dumps(result_bits(run_dir)))
    return json.loads(file.read_text())
