"""The versions of the software of a run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import facerec


def versions() -> dict[str, str]:
    """Returns facerec's version, and the commit if it runs from a checkout."""
    here = Path(facerec.__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return {"facerec": facerec.__version__, "commit": commit or "unknown"}


def environment() -> dict[str, Any]:
    """Returns the versions of facerec, Python and torch, and torch's number of threads, as plain values."""
    import torch

    return {
        "version": versions(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "num_threads": torch.get_num_threads(),
    }
