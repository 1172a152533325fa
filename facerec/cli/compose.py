"""Composes the configuration of a verb with Hydra, and turns every mistake in it into a message with the mend.

Hydra composes; it does not run anything here: it changes no directory, writes no logs, and its own keys are refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facerec.cli.arguments import TARGET, did_you_mean
from facerec.cli.config_files import (
    config_directories,
    config_directory,
    find_config,
    group_names,
    group_options,
    is_group,
)
from facerec.cli.overrides import expand_home, key_of, parse_overrides, shell_form
from facerec.core.errors import ConfigError

__all__ = ["compose", "config_directory"]

MISSING = "???"


def compose(
    verb: str, overrides: Sequence[str], config_dir: str | Path | None = None, *, allow_missing: bool = False
) -> DictConfig:
    """`configs/<verb>.yaml` with the overrides, resolved; text that starts with `~/` is a path in the home directory.

    Args:
        verb: name of a primary configuration, for example "train".
        overrides: in Hydra's grammar, without sweeps.
        config_dir: a directory with the user's own YAML groups, which win over those of facerec.
        allow_missing: leave mandatory values (`???`) as they are, for showing the configuration.

    Raises:
        ConfigError: an override does not parse; a key, a group or an option does not exist; an added key that no
            constructor is asked about; a mandatory value is absent; a reference or a file that does not resolve.
    """
    directories = config_directories(config_dir)
    find_config(verb, directories)
    parsed = parse_overrides(overrides)
    for override in parsed:
        _refuse_hydra_keys(override)
        _refuse_sweeps(override)
        _check_option(override, directories)
    with _hydra(directories) as load:
        try:
            config = load(verb, [expand_home(text) for text in overrides])
        except _USER_ERRORS as error:
            raise _explained(error, verb, parsed, directories, load) from None
        if any(override.is_add() or override.is_force_add() for override in parsed):
            _check_added(config, verb, parsed, directories, load)
    return _resolved(config, allow_missing=allow_missing)


# What Hydra, OmegaConf and PyYAML raise for a mistake in a file or an override. Hydra uses ValueError for some.
_USER_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
_Load = Callable[[str, Sequence[str]], DictConfig]


@contextmanager
def _hydra(directories: Sequence[Path]) -> Iterator[_Load]:
    """A function that composes with the first directory winning; leaves no global state of Hydra behind."""
    others = ",".join(f'"file://{path}"' for path in directories[1:])

    def load(verb: str, overrides: Sequence[str]) -> DictConfig:
        return hydra.compose(verb, overrides=[*overrides, f"hydra.searchpath=[{others}]"])

    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(directories[0]), version_base="1.3", job_name="facerec"):
            yield load
    finally:
        GlobalHydra.instance().clear()


def _refuse_hydra_keys(override: Override) -> None:
    if override.is_hydra_override() or override.key_or_group == "hydra":
        raise ConfigError(f"{override.input_line}: facerec does not use Hydra's own keys; the run directory is run_dir=")


def _refuse_sweeps(override: Override) -> None:
    if not override.is_sweep_override():
        return
    key, _, value = str(override.input_line).partition("=")
    message = f"{override.input_line}: several values for one key are a grid; add -m to run it."
    if override.is_choice_sweep() and "(" not in value:
        message += f" For a list write {key}=[{value}], for text with a comma {shell_form(key, value)}"
    raise ConfigError(message)


def _check_option(override: Override, directories: Sequence[Path]) -> None:
    """Refuses an option that is no file. Hydra would, except where a defaults list calls the group optional."""
    group, value = override.key_or_group, override.value()
    if not _is_choice(override, directories) or override.is_delete():
        return
    options = group_options(group, directories, nested=True)
    for option in value if isinstance(value, list) else [value]:
        if option not in options:
            raise ConfigError(
                f"{group}={'null' if option is None else option}: no such option;{did_you_mean(str(option), options)} "
                f"{group} takes: {', '.join(options)}"
            )


def _check_added(
    config: DictConfig, verb: str, parsed: Sequence[Override], directories: Sequence[Path], load: _Load
) -> None:
    """Refuses `+key=value` outside of sections with a `_target_`, where nothing would ever read it."""
    kept = [o for o in parsed if not (o.is_add() or o.is_force_add()) or _is_choice(o, directories)]
    known = dict(_leaves(OmegaConf.to_container(load(verb, [str(o.input_line) for o in kept]))))
    composed: Any = OmegaConf.to_container(config)
    for key in dict(_leaves(composed)):
        if key not in known and not _has_target(composed, key):
            raise ConfigError(f"+{key}: nothing reads this key;{did_you_mean(key, known)} See facerec {verb} --help")


def _is_choice(override: Override, directories: Sequence[Path]) -> bool:
    """Whether an override chooses an option of a group, as Hydra sees it: a mapping is a value even there."""
    return is_group(override.key_or_group, directories) and not isinstance(override.value(), dict)


def _has_target(composed: Any, key: str) -> bool:
    """Whether a mapping around the key names a constructor, which is then asked whether it takes the argument."""
    for part in key.split(".")[:-1]:
        composed = composed[part]
        if TARGET in composed:
            return True
    return False


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explained(
    error: Exception, verb: str, parsed: Sequence[Override], directories: Sequence[Path], load: _Load
) -> ConfigError:
    """The error of a failed composition, by looking for the override that is at fault."""
    groups = [str(o.input_line) for o in parsed if _is_choice(o, directories)]
    try:
        known = dict(_leaves(OmegaConf.to_container(load(verb, groups))))
    except _USER_ERRORS as group_error:
        return _explained_group(group_error, verb, parsed, directories)
    names = {key.rsplit(".", depth)[0] for key in known for depth in range(key.count(".") + 1)}
    for override in parsed:
        key = key_of(override)
        if _is_choice(override, directories):
            continue
        if override.is_add() and key in names:
            return ConfigError(f"{override.input_line}: {key} is there already; leave the + out")
        if not override.is_add() and not override.is_force_add() and key not in names:
            near = did_you_mean(key, [*names, *group_names(directories)])
            return ConfigError(f"{key}: no such key;{near} See facerec {verb} --help")
    return ConfigError(_plain(error))


def _explained_group(error: Exception, verb: str, parsed: Sequence[Override], directories: Sequence[Path]) -> ConfigError:
    for override in parsed:
        group = override.key_or_group
        if _is_choice(override, directories) and f"Could not override '{key_of(override)}'" in str(error):
            parent, _, folder = group.rpartition("/")
            mend = f"write {parent}={folder}/{override.value()}" if parent else f"see facerec {verb} --help"
            return ConfigError(f"{override.input_line}: {verb} does not choose from the group {group}; {mend}")
    return ConfigError(_plain(error))


def _resolved(config: DictConfig, *, allow_missing: bool) -> DictConfig:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing and not allow_missing:
        raise ConfigError(f"{missing[0]} is not set: give {missing[0]}=...")
    try:
        values = OmegaConf.to_container(config, resolve=not missing)
    except OmegaConfBaseException as error:
        raise ConfigError(_plain(error)) from None
    resolved = OmegaConf.create(_with_home(values))
    OmegaConf.set_struct(resolved, True)
    return resolved


def _with_home(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_home(item) for item in value]
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    return value


def _plain(error: BaseException) -> str:
    """An error of Hydra, OmegaConf or PyYAML in one line, with its causes, without search paths and links."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None:
        for line in map(str.strip, str(current).partition("Config search path:")[0].splitlines()):
            if line and line not in lines and not line.startswith(("See https", "object_type=", "reference_type=")):
                lines.append(line)
        current = current.__cause__
    return "; ".join(lines) or type(error).__name__
