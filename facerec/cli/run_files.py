"""The files of a run directory beside its checkpoints: what was trained there, by whom, and how it ended."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

import facerec
from facerec.cli.arguments import build
from facerec.cli.run_directory import differences
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import CheckpointError, ConfigError
from facerec.training.checkpoint import CheckpointStore

SECONDS_TO_WAIT = 10  # for a process that is writing its last checkpoint
PREEMPTED_FILE = "preempted"  # from a stop by a signal to the next start


@contextmanager
def held_alone(run_dir: Path) -> Iterator[None]:
    """Keeps other processes out of a run directory; the system ends the lock with the process, however it dies."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        with lock.acquire(timeout=SECONDS_TO_WAIT):
            yield
    except Timeout:
        raise ConfigError(
            f"{run_dir}: another process trains there; wait until it ends, stop it, or use another run_dir"
        ) from None


def checkpoint_to_resume(config: DictConfig, run_dir: Path, fingerprint: str) -> Path | None:
    """The checkpoint to go on from, after a comparison of what was trained with what is asked for."""
    store: CheckpointStore = build(config.checkpoint)
    newest = store.newest(run_dir / "checkpoints")
    if newest is None and any((run_dir / "checkpoints").glob("step-*")) and not _only_partial(run_dir):
        raise CheckpointError(
            f"{run_dir}: none of its checkpoints is whole (see above). Move the folder away, or use another run_dir"
        )
    if newest is None:
        if config.resume == "required":
            raise ConfigError(f"resume=required, but {run_dir} holds no checkpoint; check run_dir, or use resume=auto")
        return None
    if config.resume == "never":
        raise ConfigError(f"resume=never, but {run_dir} holds {newest.name}; use another run_dir, or resume=auto")
    stored_config, stored_print = _stored_run(run_dir)
    changed = differences(stored_config, OmegaConf.to_container(config))  # type: ignore[arg-type]
    if stored_print != fingerprint:
        changed.append(f"the data: fingerprint stored {stored_print[:12]}, now {fingerprint[:12]} ({config.data.root})")
    if changed:
        raise ConfigError(
            f"{run_dir} holds another run:\n  " + "\n  ".join(changed) + "\nEither train into another run_dir=..., or "
            f"start from its weights: init_from={run_dir} with another run_dir=..."
        )
    return newest


def _stored_run(run_dir: Path) -> tuple[dict[str, Any], str]:
    """The configuration and the data fingerprint that a run directory was trained with."""
    try:
        stored_config = yaml.safe_load((run_dir / "config.yaml").read_text())
        if not isinstance(stored_config, dict):
            raise ValueError("config.yaml holds no keys")
        return stored_config, str(json.loads((run_dir / "run.json").read_text())["data_fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{run_dir} holds checkpoints, but its config.yaml or run.json cannot be read ({error}), so whether they "
            f"belong to this run is not known. Use another run_dir=..., with init_from={run_dir} for its weights"
        ) from None


def outcome_of(run_dir: Path, newest: Path) -> dict[str, Any] | None:
    """What result.json says, if the newest whole checkpoint is the one that it was written for."""
    try:
        result = json.loads((run_dir / "result.json").read_text())
        is_of_newest = int(newest.name.removeprefix("step-")) == result["step"] and isinstance(result["metrics"], dict)
    except (OSError, ValueError, KeyError, TypeError):  # of a damaged one: the run is finished once more
        return None
    return result if is_of_newest else None


def _only_partial(run_dir: Path) -> bool:
    return all(".partial-" in path.name for path in (run_dir / "checkpoints").glob("step-*"))


def versions() -> dict[str, str]:
    """facerec's version, and the commit where it runs from a checkout."""
    here = Path(facerec.__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return {"facerec": facerec.__version__, "commit": commit or "unknown"}


def write_run(run_dir: Path, config: DictConfig, overrides: list[str], fingerprint: str) -> None:
    """`config.yaml`, `overrides.json` and `run.json`: what runs there."""
    run = {
        "command": shlex.join(["facerec", "train", *overrides]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "version": versions(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "num_threads": torch.get_num_threads(),
        "data_fingerprint": fingerprint,
    }
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config))
    write_text(run_dir / "overrides.json", json.dumps(overrides))
    write_text(run_dir / "run.json", json.dumps(run, indent=1))


def write_text(path: Path, text: str) -> None:
    """A file that is whole or absent, in a folder that is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(text.encode())
