"""Builds the commands that facerec prints; each can be pasted into a shell, with any names of files and folders."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from facerec.core.typed_text import typed_command

_config_dir: str | None = None


def called_with(*, config_dir: str | None) -> None:
    """Stores the `--config-dir` of this process, because the commands that it prints need it too."""
    global _config_dir
    _config_dir = config_dir


def given_config_dir() -> str | None:
    """Returns the `--config-dir` that this process was called with, or None."""
    return _config_dir


def command(verb: str, *overrides: str, config_dir: str | None = None, options: Sequence[str] = ()) -> str:
    """Returns a facerec command line that can be pasted into a shell.

    Args:
        verb: the verb to run.
        overrides: in Hydra's grammar, as they come from a command line or from `override_of`.
        config_dir: the folder with the user's groups and options; None: that of this process.
        options: further options, such as -m.
    """
    config_dir = config_dir or _config_dir
    own = [] if config_dir is None else ["--config-dir", config_dir]
    return typed_command([*_own_command(), verb, *options, *own, *overrides])


def _own_command() -> list[str]:
    """Returns how the user can call facerec again: `facerec` if the PATH finds it, else its full path."""
    script = Path(sys.argv[0])
    if script.name != "facerec":
        return [sys.executable, "-m", "facerec"]
    found = shutil.which("facerec")
    return ["facerec"] if found and Path(found).resolve() == script.resolve() else [str(script.resolve())]
