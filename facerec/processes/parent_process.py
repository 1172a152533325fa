"""A process that never outlives the one that started it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(pid: int) -> None:
    """From now on the system kills this process when its parent ends, however that ends. Linux only.

    Args:
        pid: of the parent; where it has ended already, this process exits with 1.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != pid:
        raise SystemExit(1)
