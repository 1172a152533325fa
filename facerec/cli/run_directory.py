"""The run directory of a command or of a grid's trials: the one that it names, or one named after its overrides."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facerec.cli.config.config_files import config_directories, default_choices
from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.core.errors import ConfigError
from facerec.runs.comparison import changes_result, without_null_length
from facerec.runs.naming import RUNS, folder_name, setting_name

PLACE_KEYS = ("run_dir", "name", "group")
PARTS = ("data", "backbone", "head")
"""The groups whose options name the folder of runs without an experiment."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The keys of a command that say where its run lies; None where they are not given."""

    run_dir: Path | None = None
    name: str | None = None
    group: str | None = None

    @property
    def is_named(self) -> bool:
        """True if the command says itself which run it means."""
        return self.run_dir is not None or self.name is not None


def place_of(overrides: Sequence[str]) -> Place:
    """Returns what `run_dir=`, `name=` and `group=` say.

    Raises:
        ConfigError: a value is no text, cannot be a folder's name, or run_dir is given together with another one.
    """
    given: dict[str, str] = {}
    for one in parse_overrides(overrides):
        key, value = key_of(one), one.value()
        if key not in PLACE_KEYS or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ConfigError(f"{one.input_line}: expected one folder; with -m, it is the folder of the whole grid")
        given[key] = str(value)
        parts = given[key].split("/")
        if key != "run_dir" and ({"", ".", ".."} & set(parts) or (key == "name" and len(parts) > 1)):
            raise ConfigError(f"{one.input_line}: expected a folder's name; the run lies in runs/<group>/<name>")
    if "run_dir" in given and len(given) > 1:
        other = next(key for key in given if key != "run_dir")
        raise ConfigError(f"run_dir={given['run_dir']} and {other}={given[other]} both name the folder; remove one")
    run_dir = given.pop("run_dir", None)
    return Place(run_dir=None if run_dir is None else Path(run_dir).expanduser(), **given)


def without_place(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides without run_dir, name and group."""
    parsed = parse_overrides(overrides)
    return [text for text, one in zip(overrides, parsed, strict=True) if key_of(one) not in PLACE_KEYS]


def run_directory(overrides: Sequence[str], place: Place, *, config_dir: str | None = None) -> Path:
    """Returns `run_dir` if given, else `runs/<group>/<name>`.

    The group is `group=`, or the experiment, or else data, backbone and head: `runs/celeba_wild_iresnet18_arcface`.
    The name is `name=`, or the overrides that change the result and that the group does not say, in any order and
    spelling (0.50 is 0.5), so that the same command finds the same directory; see `setting_name`.
    `experiment=table2/row` and `+experiment/table2=row` both give `runs/table2/row/...`.

    Args:
        overrides: those of one run, without sweeps and without the keys of the place.
        place: what the command says about it.
        config_dir: a directory with the user's own groups and options.

    Raises:
        ConfigError: an override does not parse.
    """
    if place.run_dir is not None:
        return place.run_dir
    setting = _setting(overrides)
    group, said = _group(setting, place, _defaults(config_dir), varying=())
    return group / (place.name or setting_name(_without(setting, said)))


def trial_directories(trials: Sequence[Sequence[str]], place: Place, *, config_dir: str | None = None) -> list[Path]:
    """Returns the directories of a grid's trials: `runs/<group>/<what all trials share>/<what varies, and the seed>`.

    Where nothing is shared, besides what the group says, there is no folder for it. `name=` replaces its name, and
    `run_dir=` is the folder of the grid. Each of several experiments has its own folder.

    Args:
        trials: the overrides of each trial, without run_dir, name and group.
        place: where the grid lies.
        config_dir: see `run_directory`.
    """
    settings = [_setting(trial) for trial in trials]
    shared = set.intersection(*(set(setting.items()) for setting in settings))
    shared = {(key, value) for key, value in shared if key != "seed"}
    varying = {key for setting in settings for key in setting} - {key for key, _ in shared}
    defaults, directories = _defaults(config_dir), []
    for setting in settings:
        folder, said = _group(setting, place, defaults, varying=varying)
        if place.run_dir is not None:
            own = _experiment_folders(setting) if "experiment" in varying else []
            folder, said = place.run_dir.joinpath(*own), {"experiment"}
        elif place.name is not None:
            folder /= place.name
        elif constants := _without(dict(shared), said):
            folder /= setting_name(constants, short=True)
        directories.append(folder / setting_name(_without(setting, {*dict(shared), *(said & {"experiment"})})))
    return directories


def _setting(overrides: Sequence[str]) -> dict[str, str]:
    """Returns the overrides that change the result, by key, with their values in one spelling."""
    experiments: list[str] = []
    setting: dict[str, str] = {}
    root = None
    for override in parse_overrides(overrides):
        key, value = key_of(override), "" if override.value_type is None else _text(override.value())
        if key == "experiment":
            experiments = [] if override.is_delete() else [value]
        elif key.startswith("experiment/"):
            experiments.append(f"{key.removeprefix('experiment/')}/{value}")
        elif key == "data.root":
            root = override.value()
        elif changes_result(key):
            setting[f"no-{key}" if override.is_delete() else key] = value.removeprefix(f"{RUNS}/")
    if experiments:
        setting["experiment"] = "+".join(experiments)
    if setting.get("data") == "on_disk" and root is not None:
        setting["data"] = "-".join(_stem(one) for one in (root if isinstance(root, list) else [root]))
    return without_null_length(setting)


def _group(
    setting: Mapping[str, str], place: Place, defaults: Mapping[str, str], *, varying: Collection[str]
) -> tuple[Path, set[str]]:
    """Returns the folder of a group of runs, and the keys whose values it says."""
    if place.group is not None:
        return RUNS.joinpath(*place.group.split("/")), set()
    if "experiment" in setting:
        return RUNS.joinpath(*_experiment_folders(setting)), {"experiment"}
    parts = {key: setting.get(key, defaults.get(key)) for key in PARTS if key not in varying}
    name = "_".join(folder_name(value) for value in parts.values() if value)
    return RUNS / (name or "train"), set(parts)


def _experiment_folders(setting: Mapping[str, str]) -> list[str]:
    return [folder_name(part) for part in setting["experiment"].split("/")] if "experiment" in setting else []


def _without(setting: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    return {key: value for key, value in setting.items() if key not in keys}


def _defaults(config_dir: str | None) -> dict[str, str]:
    return default_choices("train", config_directories(config_dir))


def _stem(root: Any) -> str:
    """Returns the name of a data set: its folder's, or its table's without the ending."""
    path = Path(str(root)).expanduser()
    path = Path.cwd() / path if path.name in ("", "..") else path
    return path.stem if path.suffix in (".csv", ".tsv") else path.name


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "-".join(map(_text, value))
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return str(value).lower() if isinstance(value, bool) else str(value)
