"""Compares the stored run of a directory with the run that should resume there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facerec.core.errors import CheckpointError, ConfigError, DataError
from facerec.core.metric import Metric
from facerec.core.typed_text import typed
from facerec.runs.checkpoints import step_of
from facerec.runs.comparison import LENGTH_KEYS, differences
from facerec.runs.run_directory import RunDirectory


def check_same_run(
    run: RunDirectory, config: Mapping[str, Any], fingerprint: str, *, data_root: str | None
) -> dict[str, Any]:
    """Refuses to resume with another configuration or other data; returns the stored configuration.

    Args:
        run: has a checkpoint.
        config: the resolved configuration as plain values.
        fingerprint: fingerprint of the data.
        data_root: place of the data, for the message.

    Raises:
        CheckpointError: the stored configuration or fingerprint cannot be read.
        ConfigError: something that changes the result differs, except the length of the run.
    """
    stored_config, stored_print = _stored_run(run)
    changed = differences(stored_config, config, but=LENGTH_KEYS)
    if stored_print != fingerprint:
        changed.append(f"the data: fingerprint stored {stored_print[:12]}, now {fingerprint[:12]} ({data_root})")
    if changed:
        raise ConfigError(
            f"{run.path} holds another run:\n  " + "\n  ".join(changed) + "\nEither train into another run_dir=..., or "
            f"start from its weights only: {typed('init_from', run.path)} with another run_dir=... To resume in this "
            "run_dir, with class centres and optimizer, set all of these as they were; only trainer.num_steps or "
            "num_epochs may be larger"
        )
    return stored_config


def outcome_of(run: RunDirectory, newest: Path, *, num_steps: int) -> list[Metric] | None:
    """Returns the final metrics, if they were measured on the newest complete checkpoint.

    Returns None if the run is not finished, or has done fewer than `num_steps` steps.
    """
    if step_of(newest) < num_steps:
        return None
    try:
        result = run.read_result()
    except DataError:  # the run ends with a new evaluation
        return None
    return result[1] if result is not None and result[0] == step_of(newest) else None


def _stored_run(run: RunDirectory) -> tuple[dict[str, Any], str]:
    """Returns the configuration and the data fingerprint with which a run directory was trained."""
    try:
        stored_config, about = run.read_config(), run.read_about()
        if not stored_config or "data_fingerprint" not in about:
            raise DataError(f"{run.about if stored_config else run.config} is missing or empty")
        return stored_config, str(about["data_fingerprint"])
    except DataError as error:
        raise CheckpointError(
            f"{run.path} holds checkpoints, but its config.yaml or run.json cannot be read ({error}), so facerec "
            f"cannot check that they belong to this run. Use another run_dir=..., with "
            f"{typed('init_from', run.path)} for its "
            "weights"
        ) from None
