"""Builds the commands that facerec prints; each can be pasted into a shell, with any names of files and folders."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from facerec.core.typed_text import typed_command

_config_dir: str | None = None
_called_as: list[str] | None = None


def called_with(*, config_dir: str | None, called_as: list[str] | None = None) -> None:
    """Stores what the printed commands need: the `--config-dir` of this process, and how the user called facerec.

    Args:
        config_dir: the folder, or None.
        called_as: the words before the verb, in a process that facerec has started; None: see `own_command`.
    """
    global _config_dir, _called_as
    _config_dir, _called_as = config_dir, called_as


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
    return typed_command([*own_command(), verb, *options, *own, *overrides])


def own_command() -> list[str]:
    """Returns how the user can call facerec again: by a short name if the PATH finds the same program under it."""
    if _called_as is not None:
        return _called_as
    script = Path(sys.argv[0])
    if script.name == "facerec":
        found = shutil.which("facerec")
        return ["facerec"] if found and Path(found).resolve() == script.resolve() else [str(script.resolve())]
    names = ("python", "python3")  # compared as they are: the python of a virtual environment is a link out of it
    python = next((name for name in names if shutil.which(name) == sys.executable), sys.executable)
    return [python, "-m", "facerec"]
