"""The files of a run directory beside its checkpoints: what was trained there, by whom, and how it ended."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

import facerec
from facerec.cli.commands import command, given_config_dir
from facerec.cli.config.arguments import build
from facerec.cli.verbs.run_length import changed_length
from facerec.core.errors import CheckpointError, ConfigError, DataError
from facerec.core.log import LOGGER
from facerec.core.metric import Metric
from facerec.core.source import Source
from facerec.core.typed_text import typed
from facerec.runs.checkpoints import has_only_partial, step_of
from facerec.runs.comparison import LENGTH_KEYS, differences
from facerec.runs.run_directory import RunDirectory
from facerec.training.checkpoint import CheckpointStore


def checkpoint_to_resume(config: DictConfig, run: RunDirectory, source: Source, fingerprint: str) -> Path | None:
    """The checkpoint to go on from, after a comparison of what was trained with what is asked for.

    Where the run goes on with another length than it had, a line is logged.
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
    stored_config, stored_print = _stored_run(run)
    changed = differences(stored_config, OmegaConf.to_container(config), but=LENGTH_KEYS)  # type: ignore[arg-type]
    if stored_print != fingerprint:
        changed.append(f"the data: fingerprint stored {stored_print[:12]}, now {fingerprint[:12]} ({config.data.root})")
    if changed:
        raise ConfigError(
            f"{run_dir} holds another run:\n  " + "\n  ".join(changed) + "\nEither train into another run_dir=..., or "
            f"start from its weights alone: {typed('init_from', run_dir)} with another run_dir=... In this run_dir it "
            "goes on, with class centres and optimizer, where nothing of this differs; trainer.num_steps or num_epochs "
            "may be larger than they were"
        )
    note = changed_length(config, source, stored_trainer=stored_config["trainer"], num_done=step_of(newest))
    if note is not None:
        LOGGER.info("%s: %s", run_dir, note)
    return newest


def _stored_run(run: RunDirectory) -> tuple[dict[str, Any], str]:
    """Returns the configuration and the data fingerprint that a run directory was trained with."""
    try:
        stored_config, about = run.read_config(), run.read_about()
        if not stored_config or "data_fingerprint" not in about:
            raise DataError(f"{run.about if stored_config else run.config} is missing or empty")
        return stored_config, str(about["data_fingerprint"])
    except DataError as error:
        raise CheckpointError(
            f"{run.path} holds checkpoints, but its config.yaml or run.json cannot be read ({error}), so whether they "
            f"belong to this run is not known. Use another run_dir=..., with {typed('init_from', run.path)} for its "
            "weights"
        ) from None


def outcome_of(run: RunDirectory, newest: Path, *, num_steps: int) -> list[Metric] | None:
    """Returns the metrics of the end, if the newest whole checkpoint is the one that they were measured on.

    None where the run is not finished, or `num_steps` are more than it has done.
    """
    if step_of(newest) < num_steps:
        return None
    try:
        result = run.read_result()
    except DataError:  # the run is finished once more
        return None
    return result[1] if result is not None and result[0] == step_of(newest) else None


def versions() -> dict[str, str]:
    """facerec's version, and the commit where it runs from a checkout."""
    here = Path(facerec.__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return {"facerec": facerec.__version__, "commit": commit or "unknown"}


def write_run(run: RunDirectory, config: DictConfig, overrides: list[str], fingerprint: str) -> None:
    """Writes what runs there: the configuration, the overrides, versions and the data fingerprint."""
    about = {
        "command": command("train", *overrides),
        "config_dir": given_config_dir(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "version": versions(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "num_threads": torch.get_num_threads(),
        "data_fingerprint": fingerprint,
    }
    run.write_start(config_yaml=OmegaConf.to_yaml(config), overrides=overrides, about=about)
