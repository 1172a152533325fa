"""Finds the state from which `facerec train` resumes, and writes the files of the run directory at the start."""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command, given_config_dir
from facerec.cli.config.arguments import build
from facerec.cli.verbs.run_length import changed_length, remaining_steps
from facerec.cli.verbs.ways_on import ways_past_differences
from facerec.core.errors import CheckpointError, ConfigError
from facerec.core.log import LOGGER
from facerec.core.source import Source
from facerec.core.typed_text import typed
from facerec.runs.checkpoints import has_only_partial, step_of
from facerec.runs.choice import choose_source
from facerec.runs.environment import environment
from facerec.runs.resumption import compare
from facerec.runs.run_directory import RunDirectory
from facerec.training.checkpoint import CheckpointStore


def checkpoint_to_resume(
    config: DictConfig, overrides: list[str], run: RunDirectory, source: Source, fingerprint: str
) -> Path | None:
    """Returns the checkpoint to resume from: the run's own newest one, else that of `resume_from`; None to begin.

    Compares the configuration with that of the checkpoint's run. What changes is logged.

    Raises:
        ConfigError: the run has another configuration, or the state of `resume_from` cannot be taken over.
        CheckpointError: every checkpoint is damaged, or the files that describe the run are.
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
        return None if config.resume_from is None else _taken_over(config, source, fingerprint)
    if config.resume == "never":
        raise ConfigError(f"resume=never, but {run_dir} holds {newest.name}; use another run_dir, or resume=auto")
    values: Any = OmegaConf.to_container(config)
    stored_config, changed, data = compare(run, values, fingerprint, data_root=config.data.root)
    if changed or data:
        lines = "\n  ".join([*changed, *([data] if data else [])])
        raise ConfigError(
            f"{run_dir} holds another run:\n  {lines}\n{ways_past_differences(run, overrides, same_data=data is None)}"
        )
    note = changed_length(config, source, stored_trainer=stored_config["trainer"], num_done=step_of(newest))
    if note is not None:
        LOGGER.info("%s: %s", run_dir, note)
    return newest


def _taken_over(config: DictConfig, source: Source, fingerprint: str) -> Path:
    """Returns the checkpoint that `resume_from` names, and logs what changes.

    Raises:
        ConfigError: the data or the optimizer is another one, or no step is left.
    """
    run, chosen = choose_source(config.resume_from)
    for warning in chosen.warnings:
        LOGGER.warning(warning)
    values: Any = OmegaConf.to_container(config)
    stored_config, changed, data = compare(run, values, fingerprint, data_root=config.data.root)
    weights = f"To start from its weights alone: {typed('init_from', config.resume_from)} in place of resume_from"
    if data:
        raise ConfigError(
            f"resume_from={config.resume_from}: its class centres belong to other data. {data}. {weights}"
        )
    optimizers = [(one.get("optimizer") or {}).get("_target_") for one in (stored_config, values)]
    if optimizers[0] != optimizers[1]:
        raise ConfigError(
            f"resume_from={config.resume_from}: the state of its optimizer ({optimizers[0]}) cannot be used by "
            f"{optimizers[1]}. {weights}"
        )
    changed = [line for line in changed if not line.startswith(("resume_from:", "init_from:"))]
    LOGGER.info(
        "resume_from=%s: %s",
        config.resume_from,
        "".join(["these settings change:", *(f"\n  {line}" for line in changed)]) if changed else "no setting changes",
    )
    LOGGER.info(remaining_steps(config, source, run, num_done=step_of(chosen.path)))
    return chosen.path


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
