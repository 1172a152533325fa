"""Compares the run that a directory holds with the run that is to go on there."""

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
    """Refuses to go on where another configuration or other data was trained; returns the stored configuration.

    Args:
        run: holds a checkpoint.
        config: the resolved configuration as plain values.
        fingerprint: of the data.
        data_root: where the data lies, for the message.

    Raises:
        CheckpointError: what was trained there cannot be read.
        ConfigError: something differs that changes the result, the length of the run excepted.
    """
    stored_config, stored_print = _stored_run(run)
    changed = differences(stored_config, config, but=LENGTH_KEYS)
    if stored_print != fingerprint:
        changed.append(f"the data: fingerprint stored {stored_print[:12]}, now {fingerprint[:12]} ({data_root})")
    if changed:
        raise ConfigError(
            f"{run.path} holds another run:\n  " + "\n  ".join(changed) + "\nEither train into another run_dir=..., or "
            f"start from its weights alone: {typed('init_from', run.path)} with another run_dir=... In this run_dir it "
            "goes on, with class centres and optimizer, where nothing of this differs; trainer.num_steps or num_epochs "
            "may be larger than they were"
        )
    return stored_config


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
