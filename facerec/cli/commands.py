"""The commands that facerec prints. Each of them can be pasted into a shell, whatever files and folders are called."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from facerec.core.typed_text import typed_command

_config_dir: str | None = None


def called_with(*, config_dir: str | None) -> None:
    """Notes the `--config-dir` of this process, which the commands that it prints need as well."""
    global _config_dir
    _config_dir = config_dir


def given_config_dir() -> str | None:
    """The `--config-dir` that this process was called with, or None."""
    return _config_dir


def command(verb: str, *overrides: str, config_dir: str | None = None, options: Sequence[str] = ()) -> str:
    """Returns a command line of facerec that can be pasted.

    Args:
        verb: what it runs.
        overrides: in Hydra's grammar, as they come from a command line or from `override_of`.
        config_dir: the user's own groups and options; None: those that this process was called with.
        options: such as -m.
    """
    config_dir = config_dir or _config_dir
    own = [] if config_dir is None else ["--config-dir", config_dir]
    return typed_command([*_own_command(), verb, *options, *own, *overrides])


def _own_command() -> list[str]:
    """How the user can call facerec again: `facerec` where the PATH finds it, else with its whole path."""
    script = Path(sys.argv[0])
    if script.name != "facerec":
        return [sys.executable, "-m", "facerec"]
    found = shutil.which("facerec")
    return ["facerec"] if found and Path(found).resolve() == script.resolve() else [str(script.resolve())]
