"""Checks overrides against the files and the configuration that they change, before Hydra applies them.

Hydra's own messages do not say what was meant, and it accepts three mistakes: an option of a group marked optional, a
key added where nothing reads it, and a plain value in place of a section.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from facerec.cli.config.arguments import TARGET
from facerec.cli.config.config_files import group_names, group_options, is_group
from facerec.cli.config.overrides import key_of, shell_form
from facerec.cli.config.suggestions import keys_meant, suggested_keys, suggested_options
from facerec.core.errors import ConfigError
from facerec.core.typed_text import shell_word, typed


def is_choice(override: Override, directories: Sequence[Path]) -> bool:
    """True if an override chooses an option of a group, by Hydra's rules: a mapping is a value even there."""
    return is_group(override.key_or_group, directories) and not isinstance(override.value(), dict)


def check_choice(override: Override, directories: Sequence[Path]) -> None:
    """Refuses Hydra's own keys, sweeps, and options without a file.

    Raises:
        ConfigError: there is one of these; lists the options of the group.
    """
    if override.is_hydra_override() or override.key_or_group == "hydra":
        raise ConfigError(
            f"{override.input_line}: facerec does not use Hydra's own keys; the run directory is run_dir="
        )
    if override.is_sweep_override():
        _refuse_sweep(override)
    if override.is_delete() or not is_choice(override, directories):
        return
    group, value = override.key_or_group, override.value()
    options = group_options(group, directories, nested=True)
    for option in value if isinstance(value, list) else [value]:
        if option not in options:
            given = "null" if option is None else str(option)
            raise ConfigError(
                f"{group}={given}: no such option{suggested_options(group, given, directories)} "
                f"{group} takes: {', '.join(options)}"
            )


def check_value(override: Override, base: Mapping[str, Any], verb: str, directories: Sequence[Path]) -> None:
    """Checks an override of a value against `base`, the configuration with all choices made and no value changed.

    Raises:
        ConfigError: the key does not exist; it is added although it exists, or although no constructor reads it; a
            section is overwritten or removed.
    """
    key, added = key_of(override), override.is_add() or override.is_force_add()
    value = None if override.is_delete() else override.value()
    for path, leaf in _leaves({key: value}):
        exists, found = _lookup(base, path)
        if override.is_add() and exists and not isinstance(value, dict):
            raise ConfigError(f"{override.input_line}: {path} already exists; remove the +")
        if not exists and override.is_delete() and is_group(path, directories):
            continue  # a choice without content, such as ~experiment when none was made
        if not exists and not (added and _has_target(base, path)):
            known = [*_names(base), *group_names(directories)]
            wrong = "nothing reads this key" if added else "no such key"
            meant = suggested_keys(path, known, directories, verb=verb, value=leaf)
            raise ConfigError(f"{path}: {wrong}{meant} See facerec {verb} --help")
        if override.is_delete() and not _has_target(base, path):
            raise ConfigError(f"{override.input_line}: {verb} needs {path}; give it another value instead")
        if isinstance(found, dict) and found and not isinstance(leaf, dict):
            keys = [*_names(base), *group_names(directories)]
            named = " or ".join(keys_meant(path, keys))
            meant = f"; or did you mean {named}?" if named else ""
            raise ConfigError(
                f"{override.input_line}: {path} is a section; set its keys, for example {_example(found, path)}{meant}"
            )


def has_key(base: Mapping[str, Any], path: str) -> bool:
    """True if a configuration has a key."""
    return _lookup(base, path)[0]


def _refuse_sweep(override: Override) -> None:
    key, _, value = str(override.input_line).partition("=")
    message = f"{override.input_line}: several values for one key are a grid; add -m to run it."
    if override.is_choice_sweep() and "(" not in value:
        message += f" For a list write {shell_word(f'{key}=[{value}]')}, for text with a comma {shell_form(key, value)}"
    raise ConfigError(message)


def _lookup(base: Any, path: str) -> tuple[bool, Any]:
    """Returns whether `path` exists, and its value. Hydra checks the content of lists."""
    for part in path.split("."):
        if isinstance(base, list):
            return True, None
        if not isinstance(base, dict) or part not in base:
            return False, None
        base = base[part]
    return True, base


def _has_target(base: Any, path: str) -> bool:
    """True if a section around the key names a constructor, which then decides whether it takes the argument."""
    for part in path.split(".")[:-1]:
        base = base.get(part) if isinstance(base, dict) else None
        if isinstance(base, dict) and TARGET in base:
            return True
    return False


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _names(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Returns all keys, including those of sections."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")


def _example(section: Mapping[str, Any], path: str) -> str:
    key, value = next(pair for pair in _leaves(section, f"{path}.") if not pair[0].endswith(TARGET))
    return typed(key, value)
