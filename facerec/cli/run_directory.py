"""The run directory of a command: the one that it names, or one named after its overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.runs.comparison import changes_result
from facerec.runs.naming import directory_of


def run_directory(config: DictConfig, overrides: Sequence[str]) -> Path:
    """Returns `run_dir` if set, else `runs/<experiment>/<overrides>`; without an experiment `runs/train/<overrides>`.

    The name depends on nothing but the overrides that change the result, in any order and spelling (0.50 is 0.5), so
    that the same command finds the same directory. `experiment=table2/row` and `+experiment/table2=row` both give
    `runs/table2/row/...`. See `directory_of`.

    Args:
        config: the composed configuration; only `run_dir` is read.
        overrides: the overrides of the command line, without sweeps.

    Raises:
        ConfigError: an override does not parse.
    """
    if config.get("run_dir") is not None:
        return Path(config.run_dir).expanduser()
    experiments: list[str] = []
    setting: dict[str, str] = {}
    for override in parse_overrides(overrides):
        key, value = key_of(override), "" if override.value_type is None else _text(override.value())
        if key == "experiment":
            experiments = [] if override.is_delete() else [value]
        elif key.startswith("experiment/"):
            experiments.append(f"{key.removeprefix('experiment/')}/{value}")
        elif changes_result(key):
            setting[f"no-{key}" if override.is_delete() else key] = value
    return directory_of(experiments, setting)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "+".join(map(_text, value))
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return str(value).lower() if isinstance(value, bool) else str(value)
