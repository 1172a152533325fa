"""Explains a failed collective: another process has died, or does not answer."""

import traceback
from pathlib import Path

from torch.distributed import DistError

import facerec
from facerec.core.errors import LostProcessError
from facerec.processes.group import Processes

_PACKAGE = Path(facerec.__file__).parent


def raise_if_lost(error: RuntimeError, processes: Processes, *, when: str) -> None:
    """Raises a `LostProcessError` if torch raised `error` because of another process; else returns.

    Args:
        error: the caught error.
        processes: the processes that train together.
        when: what this process was doing, as in "after step 3".
    """
    if processes.world_size == 1 or not (isinstance(error, DistError) or "/gloo/" in str(error)):
        return
    reason = str(error).partition("\n")[0].partition("] ")[2].partition(". This is typically")[0] or str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)][-1]
    what = "does not answer" if "imed out" in reason else "has gone"
    raise LostProcessError(
        f"process {processes.rank} of {processes.world_size} waited {when} in {own.name} ({own.line}; "
        f"{Path(own.filename).name}, line {own.lineno}), but another one {what}: {reason}"
    ) from None
