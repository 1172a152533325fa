"""Ends a process when the process that started it ends."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(pid: int) -> None:
    """Makes the system kill this process when its parent ends, for whatever reason. Linux only.

    Args:
        pid: process id of the parent; if it has already ended, this process exits with 1.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != pid:
        raise SystemExit(1)
