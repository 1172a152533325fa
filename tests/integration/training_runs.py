"""A tiny training for the tests that run the command line: its data, its overrides, its processes."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import facerec
from facerec.data.recordio import write_insightface_set

NUM_STEPS, SIZE_PX = 24, 32
TIMEOUT_S = 120
TINY = [
    "data=on_disk", "data.global_batch_size=8", "input.height_px=32", "input.width_px=32",
    "backbone.width_multiplier=0.25", "neck.embedding_dim=32", "neck.dropout=0.4",
    "trainer.num_epochs=null", f"trainer.num_steps={NUM_STEPS}", "trainer.micro_batch_size=4",
    "trainer.margin_ramp_epochs=2", "trainer.num_threads=1", "trainer.device=cpu",
    "optimizer.lr=0.05", "schedule.warmup_epochs=1", "eval.sets=[]", "loader.num_workers=0",
    "checkpoint.every_epochs=null", "checkpoint.every_steps=5", "logging.every_steps=1", "logging.tensorboard=false",
]  # fmt: skip


def encoded_images(*, seed: int, num_identities: int = 6, per_identity: int = 8) -> list[list[bytes]]:
    """Smooth noise as JPEG files, by identity."""
    generator = np.random.Generator(np.random.Philox(seed))
    coarse = generator.integers(0, 256, (num_identities, per_identity, 7, 7, 3), dtype=np.uint8)
    return [[encoded(image) for image in images] for images in coarse]


def encoded(coarse: np.ndarray, *, suffix: str = ".jpg") -> bytes:
    """A coarse image blown up to `SIZE_PX` and encoded."""
    pixels = cv2.resize(coarse, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def write_faces(root: Path, *, seed: int = 1) -> Path:
    """A record set of 6 identities with 8 images each: 6 steps of `TINY` an epoch."""
    write_insightface_set(root, encoded_images(seed=seed), height_px=SIZE_PX, width_px=SIZE_PX)
    return root


def tiny_overrides(data: Path, run_dir: Path, *more: str) -> list[str]:
    """The command's arguments after `facerec train`; `more` wins."""
    return [*TINY, f"data.root={data}", f"run_dir={run_dir}", *more]


def environment() -> dict[str, str]:
    """For a process that finds this facerec from any folder."""
    paths = [str(Path(facerec.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def start(overrides: list[str], log: Path) -> subprocess.Popen[bytes]:
    """`python -m facerec train ...` as a process group of its own; everything that it prints goes to `log`."""
    command = [sys.executable, "-m", "facerec", "train", *overrides]
    with open(log, "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), process_group=0
        )


def run(overrides: list[str], log: Path) -> str:
    """Runs to the end; returns what it printed. Fails where the exit code is not 0."""
    code = start(overrides, log).wait(TIMEOUT_S)
    printed = log.read_text()
    assert code == 0, printed
    return printed


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns as soon as the condition holds; fails when the process ends before."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, f"it ended before:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"it takes too long:\n{log.read_text()}"
        time.sleep(0.002)


def last_step(run_dir: Path) -> int:
    """The last step in metrics.jsonl, 0 without any."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def result_bits(run_dir: Path) -> dict[str, str]:
    """Digests of all tensors of the last checkpoint: the model, and the optimizer and the head."""
    checkpoint = run_dir / "checkpoints" / f"step-{NUM_STEPS:08d}"
    return {
        name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "train_state/tensors.safetensors", "train_state/state.json")
    }


def flip_byte(file: Path) -> None:
    """Changes the byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
