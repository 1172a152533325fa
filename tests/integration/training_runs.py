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
import torch

import facerec
from facerec.data.records.recordio import write_record_set
from facerec.processes.group import ALONE
from facerec.training.state_files import read_tensors

NUM_STEPS, SIZE_PX = 24, 32
TIMEOUT_S = 120
TINY = [
    "data=on_disk", "data.global_batch_size=8", "input.height_px=32", "input.width_px=32",
    "backbone.width_multiplier=0.25", "neck.embedding_dim=32", "neck.dropout=0.4",
    f"trainer.num_steps={NUM_STEPS}", "trainer.micro_batch_size=4",
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
    write_record_set(root, encoded_images(seed=seed), height_px=SIZE_PX, width_px=SIZE_PX)
    return root


def tiny_overrides(data: Path, run_dir: Path, *more: str) -> list[str]:
    """The command's arguments after `facerec train`; `more` wins."""
    return [*TINY, f"data.root={data}", f"run_dir={run_dir}", *more]


def environment() -> dict[str, str]:
    """For a process that finds this facerec from any folder."""
    paths = [str(Path(facerec.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


class Process:
    """A training in a process, and process group, of its own.

    Args:
        pid: of the process.
        wait: waits for its end, and returns its exit code.
        log: the file with all that it prints.
    """

    def __init__(self, *, pid: int, wait: Callable[[], int], log: Path) -> None:
        self.pid = pid
        self.wait = wait
        self.log = log

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns as soon as the condition holds; fails when the process ends before."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert not has_ended(self.pid), f"it ended before:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"it takes too long:\n{self.log.read_text()}"
            time.sleep(0.002)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def start(overrides: list[str], log: Path) -> Process:
    """`python -m facerec train ...`."""
    command = [sys.executable, "-m", "facerec", "train", *overrides]
    with open(log, "ab") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), process_group=0
        )
    return Process(pid=started.pid, wait=lambda: started.wait(TIMEOUT_S), log=log)


class Starter:
    """Starts `facerec train ...` again and again without the seconds that its imports take.

    A process that has imported everything, and computed nothing, forks once for each command.
    """

    CODE = """
import json, os, sys, traceback
import albumentations, matplotlib.pyplot, torch._dynamo, torch.utils.data, facerec.cli.verbs.train
from facerec.cli.config.compose import compose
from facerec.cli.main import main
compose("train", [])
for line in sys.stdin:
    log, *arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        code = 0
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __enter__(self) -> "Starter":
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment() | {"NO_ALBUMENTATIONS_UPDATE": "1"},
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=TIMEOUT_S)

    def start(self, overrides: list[str], log: Path) -> Process:
        """One at a time: the one before has to be waited for."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        print(json.dumps([str(log), "train", *overrides]), file=stdin, flush=True)
        return Process(pid=int(stdout.readline()), wait=lambda: int(stdout.readline()), log=log)


def run(start: Callable[[list[str], Path], Process], overrides: list[str], log: Path) -> str:
    """Runs to the end; returns what it printed. Fails where the exit code is not 0."""
    code = start(overrides, log).wait()
    printed = log.read_text()
    assert code == 0, printed
    return printed


def last_step(run_dir: Path) -> int:
    """The last step in metrics.jsonl, 0 without any."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def state_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The optimizer, the head and the terms as a checkpoint has them."""
    return read_tensors(checkpoint / "train_state", is_sharded=lambda name: False, processes=ALONE)


def result_bits(run_dir: Path, *, step: int = NUM_STEPS) -> dict[str, str]:
    """Digests of all tensors of a checkpoint: the model, and the optimizer and the head."""
    checkpoint = run_dir / "checkpoints" / f"step-{step:08d}"
    files = ("model.safetensors", "train_state/state.json")
    contents = {name: (checkpoint / name).read_bytes() for name in files}
    contents |= {name: value.numpy().tobytes() for name, value in state_tensors(checkpoint).items()}
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def flip_byte(file: Path) -> None:
    """Changes the byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
