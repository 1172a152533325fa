"""Finds the checkpoint from which `facerec train` resumes, and writes the files of the run directory at the start."""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command, given_config_dir
from facerec.cli.config.arguments import build
from facerec.cli.verbs.run_length import changed_length
from facerec.core.errors import CheckpointError, ConfigError
from facerec.core.log import LOGGER
from facerec.core.source import Source
from facerec.runs.checkpoints import has_only_partial, step_of
from facerec.runs.environment import environment
from facerec.runs.resumption import check_same_run
from facerec.runs.run_directory import RunDirectory
from facerec.training.checkpoint import CheckpointStore


def checkpoint_to_resume(config: DictConfig, run: RunDirectory, source: Source, fingerprint: str) -> Path | None:
    """Returns the checkpoint to resume from, after comparing the stored run with the configuration.

    If the run resumes with another length, a line is logged.
    """
    store: CheckpointStore = build(config.checkpoint)
    run_dir, newest = run.path, store.newest(run.checkpoints)
    if newest is None and not has_only_partial(run.checkpoints):
        raise CheckpointError(
            f"{run_dir}: every checkpoint in it is damaged (see the warnings above). Move the folder away, or use "
            "another run_dir"
        )
    if newest is None:
        if config.resume == "required":
            raise ConfigError(f"resume=required, but {run_dir} holds no checkpoint; check run_dir, or use resume=auto")
        return None
    if config.resume == "never":
        raise ConfigError(f"resume=never, but {run_dir} holds {newest.name}; use another run_dir, or resume=auto")
    values: Any = OmegaConf.to_container(config)
    stored_config = check_same_run(run, values, fingerprint, data_root=config.data.root)
    note = changed_length(config, source, stored_trainer=stored_config["trainer"], num_done=step_of(newest))
    if note is not None:
        LOGGER.info("%s: %s", run_dir, note)
    return newest


def write_run(run: RunDirectory, config: DictConfig, overrides: list[str], fingerprint: str) -> None:
    """Writes the configuration, the overrides, versions and the data fingerprint."""
    about = {
        "command": command("train", *overrides),
        "config_dir": given_config_dir(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **environment(),
        "data_fingerprint": fingerprint,
    }
    run.write_start(config_yaml=OmegaConf.to_yaml(config), overrides=overrides, about=about)
