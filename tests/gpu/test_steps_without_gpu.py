"""Every head takes its first steps on a CUDA device that is not there: torch checks the device of every tensor."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.numerics.conftest import HEAD_CONFIGS

HERE = Path(__file__).parent


def build_hooks(folder: Path) -> Path:
    """Compiles fake_cuda.cpp against the installed torch; without a compiler, or if it does not fit, the test skips."""
    from torch.utils.cpp_extension import include_paths

    if (compiler := shutil.which("g++")) is None:
        pytest.skip("NOT TESTED: steps on a GPU that is not there; there is no g++ on this machine")
    libraries, hooks = Path(torch.__file__).parent / "lib", folder / "fake_cuda.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-std=c++20", *[f"-I{path}" for path in include_paths()]]
    command += [str(HERE / "fake_cuda.cpp"), "-o", str(hooks)]
    command += [f"-L{libraries}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(
            f"NOT TESTED: steps on a GPU that is not there; fake_cuda.cpp does not compile: {done.stderr[:500]}"
        )
    return hooks


def errors_of(cases: str, folder: Path) -> dict[str, str | None]:
    """The error of each training, by its name, from a process of their own in which torch finds a GPU."""
    command = [sys.executable, "-m", "tests.gpu.fake_steps", str(build_hooks(folder)), cases]
    # FakeTensorMode is not made for several threads, and a GPU that is there must not take part
    variables = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = HERE.parents[1]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=root, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_head_takes_its_first_steps_on_a_gpu(tmp_path):
    errors = errors_of("heads", tmp_path)
    assert {name.partition(",")[0] for name in errors} == {path.stem for path in HEAD_CONFIGS}
    assert len(errors) >= 2 * len(HEAD_CONFIGS)
    assert {name: error for name, error in errors.items() if error is not None} == {}


@pytest.mark.slow
def test_every_head_trains_on_a_gpu_with_every_option(tmp_path):
    errors = errors_of("options", tmp_path)
    assert len(errors) > 150
    assert {name: error for name, error in errors.items() if error is not None} == {}
