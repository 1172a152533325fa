"""The wheel in an empty environment: it carries configs/ and works from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = (
    "data.source.num_train_identities=4",
    "data.source.images_per_identity=4",
    "data.source.num_test_identities=20",
    "data.source.num_test_pairs=40",
    "data.global_batch_size=8",
    "backbone.width_multiplier=0.25",
    "trainer.num_threads=1",
)


@pytest.mark.slow
def test_wheel_in_an_empty_environment_trains_and_evaluates_from_any_folder(tmp_path: Path) -> None:
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    subprocess.run(
        [str(environment / "bin" / "pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(ROOT)],
        check=True,
    )
    facerec, elsewhere = str(environment / "bin" / "facerec"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    variables = {**os.environ, "FACEREC_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        command = [facerec, *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "trains face-recognition models" in run("--help")
    assert "synthetic_test" in run("train", "debug=one_step", "run_dir=here", *TINY)
    assert "colour histogram" in run("evaluate", "model=here", "baselines=true")
    assert (elsewhere / "here" / "evaluation.json").exists()
