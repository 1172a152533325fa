"""`python -m facerec.cli.launching.worker FOLDER`: one process of those that `launch` has started."""

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from facerec.cli.commands import called_with
from facerec.cli.launching.developer_warnings import hide_developer_warnings
from facerec.cli.launching.exit_codes import exit_code, quiet_torch
from facerec.cli.verb_list import VERBS
from facerec.core.errors import OtherProcessError
from facerec.processes.parent_process import end_with_parent


def main(folder: Path) -> None:
    """Runs the verb with the settings that `launch` has written to the folder; raises SystemExit unless it succeeds."""
    hide_developer_warnings()
    task = json.loads((folder / "task.json").read_text())
    end_with_parent(task["launcher"])
    called_with(config_dir=task["config_dir"], called_as=task["called_as"])
    # Some send these signals to all processes, as a terminal does with Ctrl-C; the launcher passes them on.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, value in task["environment"].items():
        os.environ.setdefault(name, value)
    quiet_torch()
    if code := exit_code(lambda: _work(folder, task["verb"], task["overrides"])):
        raise SystemExit(code)


def _work(folder: Path, verb: str, overrides: list[str]) -> int:
    from omegaconf import OmegaConf

    from facerec.cli.launching.launch import CONFIG_FILE

    config: Any = OmegaConf.load(folder / CONFIG_FILE)
    OmegaConf.set_struct(config, True)
    try:
        return int(importlib.import_module(VERBS[verb].module).work(config, overrides))
    except OtherProcessError:  # the failing process prints its error; torch would kill it if this one failed first
        return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
