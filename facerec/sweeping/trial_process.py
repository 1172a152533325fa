"""Runs one trial as a separate process: starts it, watches it, interrupts it."""

import codecs
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from facerec.processes.parent_process import end_with_parent

GRID_PROCESS = "FACEREC_GRID_PROCESS"
TAIL_BYTES = 8192


class TrialProcess:
    """A running command. It has its own process group, so that Ctrl-C in a terminal reaches it once, through
    `interrupt`, and not a second time from the terminal.

    Args:
        command: program and arguments.
        echo: pass on its output; otherwise only the end of its standard error is kept.
    """

    def __init__(self, *, command: Sequence[str], echo: bool) -> None:
        self._echo = echo
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the trial
        self._echoed = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=None if echo else subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, GRID_PROCESS: str(os.getpid())},
            process_group=0,
        )

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs; passes on its output to standard error."""
        code = self._process.poll()
        if self._echo:
            new = os.pread(self._errors.fileno(), 1 << 20, self._echoed)
            self._echoed += len(new)
            sys.stderr.write(self._decoder.decode(new))
            sys.stderr.flush()
        return code

    def interrupt(self) -> None:
        """Acts like Ctrl-C: the first time a trial stops with a checkpoint, the second time without one."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kills the whole process group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_line(self) -> str:
        """Returns the last line of its standard error that is not blank."""
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def end_with_grid() -> None:
    """A trial calls it at its start: if the grid that started the trial is killed, the trial is killed too.

    Otherwise it would go on writing into its run directory while the same grid, started again, resumes it.
    """
    if grid := os.environ.pop(GRID_PROCESS, ""):
        end_with_parent(int(grid))
