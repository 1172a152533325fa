"""Compares the stored run of a directory with the run that should resume there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facerec.core.errors import CheckpointError, DataError
from facerec.core.metric import Metric
from facerec.core.typed_text import typed
from facerec.runs.checkpoints import step_of
from facerec.runs.comparison import LENGTH_KEYS, differences
from facerec.runs.run_directory import RunDirectory


def compare(
    run: RunDirectory, config: Mapping[str, Any], fingerprint: str, *, data_root: str | None
) -> tuple[dict[str, Any], list[str], str | None]:
    """Compares a stored run with a configuration, except for the length of the run.

    Args:
        run: has a checkpoint.
        config: the resolved configuration as plain values.
        fingerprint: fingerprint of the data.
        data_root: place of the data, for the text.

    Returns:
        The stored configuration, the differences that change the result, and one line if the data are others.

    Raises:
        CheckpointError: the stored configuration or fingerprint cannot be read.
    """
    stored_config, stored_print = _stored_run(run)
    data = None
    if stored_print != fingerprint:
        data = f"the data: fingerprint stored {stored_print[:12]}, now {fingerprint[:12]} ({data_root})"
    return stored_config, differences(stored_config, config, but=LENGTH_KEYS), data


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
