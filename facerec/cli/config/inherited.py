"""The keys that options of the user's own inherit from their group.

Files whose name begins with `_` hold what the options of a group share, such as `configs/head/_scaled.yaml`. An option
from `--config-dir` gets those of their keys that it does not have itself, and that its constructor takes.
"""

import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from facerec.cli.config.arguments import TARGET
from facerec.cli.config.commented import Key
from facerec.cli.config.config_files import group_names
from facerec.cli.config.file_composition import inherited_keys
from facerec.core.errors import ConfigError
from facerec.core.import_path import import_path
from facerec.core.typed_text import override_of

_NO_DEFAULT = inspect.Parameter.empty


def inherited_overrides(
    config: Mapping[str, Any], options: Mapping[str, Any], directories: Sequence[Path]
) -> list[str]:
    """Returns the overrides, `++key=value`, that add the inherited keys to a configuration.

    The value is the constructor's own default, if it has a plain one; else, and for a reference to another key, that of
    the group.

    Args:
        config: the composed configuration, not resolved.
        options: the option chosen for each group, without groups of which several options may be chosen.
        directories: facerec's configuration, and the user's.
    """
    found: list[str] = []
    for group in group_names(directories[-1:]):
        shared, path = _values(inherited_keys(group, directories)), group.replace("/", ".")
        paths = [path] if (directories[-1] / group / f"{options.get(group)}.yaml").is_file() else []
        if group not in options:  # each option of such a group adds a section, loss=[intra,mine]
            files = sorted((directories[-1] / group).glob("*.yaml"))
            paths = [f"{path}.{key}" for file in files for key in _keys(file)]
        for each in paths:
            found += _missing(_at(config, each), shared, each)
    return found


def _missing(section: Any, shared: Mapping[str, Any], path: str) -> Iterator[str]:
    if not isinstance(section, Mapping):
        return
    try:
        takes = _defaults(import_path(str(section[TARGET]), key=path)) if TARGET in section else None
    except ConfigError:  # the check of the composed configuration reports it
        return
    for key, value in shared.items():
        if key in section and isinstance(value, Mapping) and TARGET in (section[key] or {}):
            yield from _missing(section[key], value, f"{path}.{key}")
        elif key not in section and (takes is None or key in takes):
            own = _NO_DEFAULT if takes is None or _is_reference(value) else takes[key]
            yield from _added(f"{path}.{key}", value if own is _NO_DEFAULT else own)


def _added(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _added(f"{key}.{name}", item)
    else:
        yield f"++{key}={value}" if _is_reference(value) else f"++{override_of(key, value)}"


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _defaults(constructor: Any) -> dict[str, Any]:
    """Returns the names that a constructor takes, with their plain defaults, or `_NO_DEFAULT`.

    `**options` that are not described take the names of the base class's constructor.
    """
    takes: dict[str, Any] = {}
    own = [vars(cls)["__init__"] for cls in getattr(constructor, "__mro__", ()) if "__init__" in vars(cls)]
    for function in own or [constructor]:
        is_open = False
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                hint = typing.get_type_hints(function, include_extras=True).get(parameter.name)
                is_open = typing.get_origin(hint) is not typing.Unpack
                if not is_open:
                    described = typing.get_type_hints(typing.get_args(hint)[0], include_extras=True)
                    takes = {name: _annotated_default(kind) for name, kind in described.items()} | takes
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                takes.setdefault(parameter.name, parameter.default if _is_plain(parameter.default) else _NO_DEFAULT)
        if not is_open:
            break
    return takes


def _annotated_default(hint: Any) -> Any:
    """Returns the default in Annotated[type, default], as the options of heads have it."""
    (default, *_) = getattr(hint, "__metadata__", (_NO_DEFAULT,))
    return default if _is_plain(default) else _NO_DEFAULT


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _values(keys: Mapping[str, Key]) -> dict[str, Any]:
    return {name: _values(key.keys) if key.value is None else yaml.safe_load(key.value) for name, key in keys.items()}


def _keys(file: Path) -> list[str]:
    return [key for key in yaml.safe_load(file.read_text()) or {} if key != "defaults"]


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
