"""Composes the configuration of a verb with Hydra, and turns every mistake in it into a message with a fix.

Here Hydra only composes: it runs nothing, changes no directory and writes no logs, and its own keys are refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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

from facerec.cli.config.config_files import config_directories, config_directory, find_config
from facerec.cli.config.inherited import inherited_overrides
from facerec.cli.config.override_checks import check_choice, check_value, has_key, is_choice
from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.core.errors import ConfigError
from facerec.runs.comparison import LENGTH_KEYS

__all__ = ["compose", "config_directory"]


def compose(
    verb: str, overrides: Sequence[str], config_dir: str | Path | None = None, *, allow_missing: bool = False
) -> DictConfig:
    """Returns `configs/<verb>.yaml` with the overrides, resolved; text that starts with `~/` becomes a path.

    If the overrides choose an option of a group, the option keeps its own values: values that an experiment sets for
    another option of the group are dropped. If they give one of the two lengths of a training, the other one that an
    experiment sets becomes null.

    Args:
        verb: name of a primary configuration, for example "train".
        overrides: in Hydra's grammar, without sweeps.
        config_dir: a directory with the user's own groups and options.
        allow_missing: keep mandatory values (`???`), for showing the configuration.

    Raises:
        ConfigError: an override does not parse; a key, a group or an option does not exist; nothing reads an added
            key; a mandatory value is absent; a reference or a file does not resolve.
    """
    directories = config_directories(config_dir)
    find_config(verb, directories)
    parsed = parse_overrides(overrides)
    for override in parsed:
        check_choice(override, directories)
    choices = [override for override in parsed if is_choice(override, directories) and not override.is_delete()]
    values = [override for override in parsed if override not in choices]
    with _hydra(directories) as load:
        if len(directories) > 1:
            load = _inheriting(load, choices, directories)
        try:
            if values:
                base: Any = OmegaConf.to_container(_composed(load, verb, choices, choices))
                for override in values:
                    check_value(override, base, verb, directories)
                parsed += _other_length(values, base)
            config = _composed(load, verb, parsed, choices)
        except _USER_ERRORS as error:
            raise _explained(error, verb, parsed, directories) from None
    return _resolved(config, allow_missing=allow_missing)


# Errors that Hydra, OmegaConf and PyYAML raise for a mistake in a file or an override. Hydra uses ValueError for some.
_USER_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
_Load = Callable[..., DictConfig]


@contextmanager
def _hydra(directories: Sequence[Path]) -> Iterator[_Load]:
    """Returns a function that composes from all directories and leaves no global state of Hydra."""
    others = ",".join(f'"file://{path}"' for path in directories[1:])

    def load(verb: str, overrides: Sequence[str], *, return_hydra_config: bool = False) -> DictConfig:
        search = f"hydra.searchpath=[{others}]"
        return hydra.compose(verb, overrides=[*overrides, search], return_hydra_config=return_hydra_config)

    OmegaConf.register_new_resolver("unless_set", _unless_set, replace=True)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(directories[0]), version_base="1.3", job_name="facerec"):
            yield load
    finally:
        GlobalHydra.instance().clear()


def _unless_set(key: str, value: Any, *, _root_: DictConfig) -> Any:
    """`${unless_set:section.key,20}` in a YAML file: the value, or null if the other key is set."""
    return value if OmegaConf.select(_root_, key) is None else None


def _other_length(values: Sequence[Override], base: Mapping[str, Any]) -> list[Override]:
    """Returns `trainer.num_epochs=null` for a given `trainer.num_steps=30`, and the other way round."""
    given = {key_of(override): override for override in values if not override.is_delete()}
    for key, other in (LENGTH_KEYS, LENGTH_KEYS[::-1]):
        if key in given and other not in given and given[key].value() is not None and has_key(base, other):
            return parse_overrides([f"{other}=null"])
    return []


def _inheriting(load: _Load, choices: Sequence[Override], directories: Sequence[Path]) -> _Load:
    """Returns `load`, with the keys that the user's own options inherit from their groups."""
    typed_choices = {str(choice.input_line) for choice in choices}

    def load_all(verb: str, overrides: Sequence[str], **more: Any) -> DictConfig:
        chosen = load(verb, [one for one in overrides if one in typed_choices], return_hydra_config=True)
        options: Any = OmegaConf.to_container(chosen.hydra.runtime.choices)
        OmegaConf.set_struct(chosen, False)
        del chosen["hydra"]
        config: Any = OmegaConf.to_container(chosen)
        added = {one.lstrip("+").partition("=")[0] for one in overrides if one.startswith("+")}
        inherited = inherited_overrides(config, options, directories)
        kept = [one for one in inherited if one.lstrip("+").partition("=")[0] not in added]
        return load(verb, [*kept, *overrides], **more)

    return load_all


def _composed(load: _Load, verb: str, overrides: Sequence[Override], choices: Sequence[Override]) -> DictConfig:
    """Returns the configuration, in which an option chosen on the command line keeps its own values.

    An experiment's values for a head are meant for the head that it chose: with head=cosface on the command line, the
    m2 of an ArcFace experiment would silently change the loss. The same holds for backbone, optimizer and the rest.
    """
    config = load(verb, [str(override.input_line) for override in overrides])
    if not any(_is_experiment(override) for override in choices):
        return config
    for choice in choices:
        group = choice.key_or_group
        if _is_experiment(choice) or "_target_" not in (config.get(group) or {}):
            continue
        others = [str(override.input_line) for override in choices if override is not choice]
        if load(verb, others, return_hydra_config=True).hydra.runtime.choices.get(group) == choice.value():
            continue  # the experiment has chosen it
        own = [o for o in overrides if not _is_experiment(o) and (o in choices or key_of(o).startswith(f"{group}."))]
        OmegaConf.update(config, group, load(verb, [str(override.input_line) for override in own])[group], merge=False)
    return config


def _is_experiment(override: Override) -> bool:
    return override.key_or_group.partition("/")[0] == "experiment"


def _explained(error: Exception, verb: str, parsed: Sequence[Override], directories: Sequence[Path]) -> ConfigError:
    text = _plain(error)
    for override in parsed:
        group, key = override.key_or_group, key_of(override)
        if is_choice(override, directories) and text.startswith(f"Could not override '{key}'"):
            parent, _, folder = group.rpartition("/")
            mend = f"write {parent}={folder}/{override.value()}" if parent else f"see facerec {verb} --help"
            return ConfigError(f"{override.input_line}: {verb} does not choose from the group {group}; {mend}")
        if override.is_add() and text.startswith((f"Multiple values for {key}", f"{key} appears more than once")):
            return ConfigError(f"{override.input_line}: {verb} already chooses from {group}; remove the +")
    return ConfigError(text)


def _resolved(config: DictConfig, *, allow_missing: bool) -> DictConfig:
    missing = list(_missing(OmegaConf.to_container(config)))
    if missing and not allow_missing:
        raise ConfigError(f"{missing[0]} is not set; give {missing[0]}=...")
    try:
        values = OmegaConf.to_container(config, resolve=not missing)
    except OmegaConfBaseException as error:
        raise ConfigError(_plain(error)) from None
    resolved = OmegaConf.create(_with_home(values))
    OmegaConf.set_struct(resolved, True)
    return resolved


def _missing(config: Any, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _missing(value, f"{prefix}{key}.")
        elif value == "???":
            yield f"{prefix}{key}"


def _with_home(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_home(item) for item in value]
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        return str(Path(value).expanduser())
    return value


def _plain(error: BaseException) -> str:
    """Returns an error of Hydra, OmegaConf or PyYAML in one line, with its causes, without search paths and links."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None:
        for line in str(current).partition("Config search path:")[0].splitlines():
            line = line.strip().rstrip(".")
            if line and line not in lines and not line.startswith(("See https", "object_type=", "reference_type=")):
                lines.append(line)
        current = current.__cause__
    return "; ".join(lines) or type(error).__name__
