"""Runs one trial as a separate process: starts it, watches it, interrupts it."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence

from facerec.processes.parent_process import end_with_parent

GRID_PROCESS = "FACEREC_GRID_PROCESS"
TAIL_BYTES = 1 << 16
ERROR = "error: "


class TrialProcess:
    """A running command. It has its own process group, so that Ctrl-C in a terminal reaches it once, through
    `interrupt`, and not a second time from the terminal. Of its output, only the end of standard error is kept.

    Args:
        command: program and arguments.
    """

    def __init__(self, *, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the trial
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, GRID_PROCESS: str(os.getpid())},
            process_group=0,
        )

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Acts like Ctrl-C: the first time a trial stops with a checkpoint, the second time without one."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kills the whole process group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def error(self) -> str:
        """Returns the last line of its standard error that is an error of facerec, else the last that is not blank."""
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(ERROR)]
        return (errors or lines or [""])[-1]


def end_with_grid() -> None:
    """A trial calls it at its start: if the grid that started the trial is killed, the trial is killed too.

    Otherwise it would go on writing into its run directory while the same grid, started again, resumes it.
    """
    if grid := os.environ.pop(GRID_PROCESS, ""):
        end_with_parent(int(grid))
