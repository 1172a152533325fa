"""The name of a run directory: readable, and made from the overrides that change the result."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.runs.comparison import changes_result

RUNS = Path("runs")
MAX_NAME_LENGTH = 100


def run_directory(config: DictConfig, overrides: Sequence[str]) -> Path:
    """`run_dir` where it is set, else `runs/<experiment>/<overrides>`; without an experiment `runs/train/<overrides>`.

    The name depends on nothing but the overrides that change the result, in any order and spelling (0.50 is 0.5), so
    that the same command finds the same directory. `experiment=table2/row` and `+experiment/table2=row` both give
    `runs/table2/row/...`. The name holds letters, digits, `.`, `_` and `-` only, because a path with = or , would
    have to be quoted in every later command; it ends with a hash where that, or its length, has cost something.

    Args:
        config: the composed configuration; only `run_dir` is read.
        overrides: as given on the command line, without sweeps.

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
    parts = "+".join(experiments).split("/") if experiments else ["train"]
    return RUNS.joinpath(*map(_safe, parts), _name(setting))


def _name(setting: Mapping[str, str]) -> str:
    if not setting:
        return "default"
    pairs = sorted(setting.items())
    readable = "__".join(f"{key}-{value}" if value else key for key, value in pairs)
    return _safe(readable, whole="\n".join(f"{key}={value}" for key, value in pairs))


def _safe(readable: str, whole: str = "") -> str:
    """A file name for a readable text; ends with a hash of the whole one where the name alone could stand for two."""
    whole = whole or readable
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", readable)
    ambiguous = name.count("__") > whole.count("\n")
    if name == readable and not ambiguous and len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[: MAX_NAME_LENGTH - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "+".join(map(_text, value))
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return str(value).lower() if isinstance(value, bool) else str(value)
