"""Trainings over two processes of this machine for the tests: what they run, and which processes they are."""

import re
import subprocess
import sys
from pathlib import Path

from tests.integration.training_runs import Process, environment, has_ended, tiny_overrides

STEPS_BETWEEN = 2


def launch_overrides(data: Path, run_dir: Path, *more: str) -> list[str]:
    """The tiny training in two processes, to the bit the same each time; `more` wins."""
    every = f"checkpoint.every_steps={STEPS_BETWEEN}"
    return tiny_overrides(data, run_dir, "launch.processes=2", "trainer.deterministic=true", every, *more)


def torchrun(overrides: list[str], log: Path, *options: str) -> Process:
    """`torchrun --nproc-per-node=2 -m facerec train ...`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options]
    with open(log, "ab") as output:
        started = subprocess.Popen(
            [*command, "-m", "facerec", "train", *overrides], stdout=output, stderr=output, env=environment()
        )
    return Process(pid=started.pid, wait=lambda: started.wait(120), log=log)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def workers_of(launcher: int) -> dict[int, int]:
    """The process id of each rank that a launcher has started, and that runs."""
    found = {}
    for pid in children_of(launcher):
        try:
            variables = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (rank := re.search(r"(?:^|\0)RANK=(\d+)", variables)) and not has_ended(pid):
            found[int(rank[1])] = pid
    return found
