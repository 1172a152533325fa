"""The overrides of a training: those that are stored with its run, or with the run that it resumes from, then those of
the command.

Every process of a training reads them by itself; nothing here depends on the time, and the first process writes the run
directory only after all processes have joined.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from facerec.cli.config.compose import compose
from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.cli.launching.exit_codes import started_with_others
from facerec.cli.run_directory import place_of, run_directory, without_place
from facerec.core.errors import ConfigError, DataError
from facerec.core.typed_text import override_of, typed_command
from facerec.runs.checkpoints import step_of
from facerec.runs.choice import choose_source, run_path
from facerec.runs.comparison import LENGTH_KEYS, merged, split_override
from facerec.runs.naming import RUNS
from facerec.runs.run_directory import RunDirectory
from facerec.runs.same_run import StoredRuns

STARTS = ("resume_from", "init_from")


def run_overrides(verb: str, overrides: Sequence[str], *, config_dir: str | None = None) -> list[str]:
    """Returns the overrides to compose; for `train`, they end with the place of the run, `run_dir=...`.

    If the run directory holds a run, its stored overrides come first, then those of the command. If not, `resume_from`
    puts the overrides of its run there. A later override replaces an earlier one; see `merged`.

    Raises:
        ConfigError: an override does not parse; a stored override names a class (`_target_`); the run was started with
            a --config-dir, and this command has none; or resume_from names no run.
    """
    if verb != "train":
        return list(overrides)
    place, given = place_of(overrides), without_place(overrides)
    directory, whole = place.run_dir, given
    if directory is None or not RunDirectory(directory).is_run:
        whole = with_source(given, config_dir=config_dir)
        directory = directory or run_directory(whole, place, config_dir=config_dir)
        if not place.is_named:
            directory = earlier_place(directory, whole, StoredRuns(), config_dir=config_dir)
    if RunDirectory(directory).is_run:
        _refuse_itself(given, directory)
        whole = merged(without_place(_stored(RunDirectory(directory), given, config_dir)), given)
    return [*whole, override_of("run_dir", directory)]


def earlier_place(
    directory: Path, overrides: Sequence[str], stored: StoredRuns, *, config_dir: str | None = None
) -> Path:
    """Returns the directory of a run with the same configuration and data, if `directory` holds no run; else itself.

    It may lie elsewhere in the group's folder, because its command was typed in another way, or in runs/train, where
    older versions stored runs without an experiment. A line says so.
    """
    if RunDirectory(directory).is_run:
        return directory
    below = directory.relative_to(RUNS).parts if directory.is_relative_to(RUNS) else ()
    folders = [RUNS / below[0] if len(below) > 1 else directory.parent, RUNS / "train"]
    if not any(map(stored.runs_in, folders)):
        return directory
    config: Any = OmegaConf.to_container(compose("train", overrides, config_dir, allow_missing=True))
    found = stored.find(folders, config)
    if found is None:
        return directory
    if os.environ.get("RANK", "0") == "0":  # every process of torchrun comes here
        print(f"{found} holds a run with these settings: it takes the place of {directory}", flush=True)
    return found


def with_source(overrides: Sequence[str], *, config_dir: str | None = None) -> list[str]:
    """Returns the overrides after those of the run that `resume_from` names, if it is given; see `run_overrides`."""
    return merged(_of_source(overrides, config_dir), overrides)


def _of_source(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Returns the overrides of the run that `resume_from` names, without its place and its own start.

    If that run is finished and the command gives no length, they end with twice its length.
    """
    parsed = {key_of(one): one.value() for one in parse_overrides(overrides) if key_of(one) in STARTS}
    source = parsed.get("resume_from")
    if source is None:
        return []
    if parsed.get("init_from") is not None:
        raise ConfigError(
            f"resume_from={source} and init_from={parsed['init_from']} are both given; resume_from takes the whole "
            "state of a training, init_from the weights alone: remove one"
        )
    run, checkpoint = choose_source(str(source))
    stored = without_place(_stored(run, overrides, config_dir))
    stored = [one for one in stored if split_override(one)[0] not in STARTS]
    result = run.read_result()
    has_steps_left = result is None or step_of(checkpoint.path) < result[0]
    if has_steps_left or any(split_override(one)[0] in LENGTH_KEYS for one in overrides):
        return stored
    trainer = run.read_config().get("trainer") or {}
    lengths = [override_of(key, 2 * trainer[name]) for key in LENGTH_KEYS if trainer.get(name := key.split(".")[1])]
    return merged(stored, lengths)


def _stored(run: RunDirectory, given: Sequence[str], config_dir: str | None) -> list[str]:
    """Returns the stored overrides of a run.

    Raises:
        ConfigError: one of them names a class and is not given again, or the run needs a --config-dir.
    """
    stored, needed = run.read_overrides(), None
    with suppress(DataError):  # checked and reported later
        needed = run.read_about().get("config_dir")
    if needed is not None and config_dir is None:
        raise ConfigError(
            f"{run.path} was started with its own configuration folder; add {typed_command(['--config-dir', needed])}"
        )
    of_its_command = ["resume", "trust"]  # resume=never was meant for the first start; trust is given by the user only
    if started_with_others():  # torchrun has started the processes, whatever started those of the run before
        of_its_command += ["launch.processes", "launch.gpus"]
    stored = [one for one in stored if split_override(one)[0] not in of_its_command]
    again = {key_of(one) for one in parse_overrides(given)}
    for override in parse_overrides(stored):
        value = None if override.is_delete() else override.value()
        if key_of(override) not in again and "_target_" in [*key_of(override).split("."), *_keys(value)]:
            raise ConfigError(
                f"{run.overrides} holds {override.input_line}, and a class named by a stored file is never used. "
                "If you trust it, give this override again"
            )
    return stored


def _keys(value: Any) -> list[str]:
    """Returns the keys of all mappings inside a value."""
    if isinstance(value, dict):
        return [*map(str, value), *(key for item in value.values() for key in _keys(item))]
    return [key for item in value for key in _keys(item)] if isinstance(value, list) else []


def _refuse_itself(given: Sequence[str], directory: Path) -> None:
    for one in parse_overrides(given):
        if key_of(one) == "resume_from" and run_path(str(one.value())).resolve() == directory.resolve():
            raise ConfigError(
                f"{one.input_line}: {directory} resumes from its own checkpoints. Remove resume_from, or give another "
                "run_dir=..."
            )
