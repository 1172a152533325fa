"""Composes the files of a configuration with their comments, by the rules of Hydra's defaults lists that facerec uses.

Hydra composes what runs. This composition is for readers: it keeps the comments and the text of the values, and is made
in a fraction of the time that importing Hydra takes. Tests compare both for every verb, option and experiment.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facerec.cli.config.commented import ConfigFile, Key, read_config_file
from facerec.core.errors import ConfigError

Choice = str | list[str] | None


@dataclass(kw_only=True)
class Composition:
    """The configuration of a verb, read from its files.

    Attributes:
        keys: all keys; a later file's value replaces an earlier one's, and its comment where it has one.
        choices: the chosen option of each group, in the order of the defaults lists; a list where several count.
        group_comments: what the defaults list of the verb says about each group.
        headers: the comment at the head of each file that takes part, by its name, such as "head/arcface".
    """

    keys: dict[str, Key] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    group_comments: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def find(self, path: str) -> Key | None:
        """Returns the key with a full name such as "trainer.num_steps", or None."""
        keys, found = self.keys, None
        for part in path.split("."):
            found = keys.get(part)
            keys = found.keys if found else {}
        return found

    def resolve(self, value: str) -> tuple[str, str | None]:
        """Returns a value without references, and the key that it follows, if any: "1" and "seed" for ${seed}.

        `${unless_set:key,1}` is 1, or null if the other key is set; see `compose`.
        """
        follows = None
        if unless := re.fullmatch(r"\$\{unless_set:([\w.]+),(.+)\}", value):
            other = self.find(unless[1])
            return (unless[2] if other is None or other.value in (None, "null") else "null"), None
        while value.startswith("${") and value.endswith("}"):
            target = self.find(value[2:-1])
            if target is None or target.value is None:
                break
            value, follows = target.value, value[2:-1]
        return value, follows


def compose_files(
    verb: str,
    directories: Sequence[Path],
    choices: Mapping[str, Choice] | None = None,
    added: Mapping[str, Choice] | None = None,
) -> Composition:
    """Composes `<verb>.yaml` with the options that it chooses.

    Args:
        verb: the name of a primary configuration.
        directories: where the files are; see `config_directories`.
        choices: options to take instead, by their groups.
        added: options of groups that no defaults list names.

    Raises:
        ConfigError: a file is absent or cannot be read.
    """
    composer = _Composer(directories, choices or {})
    for name, package, file in composer.parts(verb, "", added or {}):
        composer.result.headers[name] = file.header
        _merge(_section(composer.result.keys, package, name), file.keys)
    return composer.result


def inherited_keys(group: str, directories: Sequence[Path]) -> dict[str, Key]:
    """Returns the keys that options of the user's own inherit from their group, if their constructors take them.

    They are in the files whose names begin with `_`, except those of one constructor alone; see `inherited_overrides`.
    """
    keys: dict[str, Key] = {}
    for path in sorted((directories[0] / group).glob("_*.yaml")):
        file = read_config_file(path, f"{group}/{path.stem}")
        if not file.defaults or "_target_" not in file.keys:
            _merge(keys, file.keys)
    return keys


_Part = tuple[str, str, ConfigFile]  # the file's name, its package, its content


class _Composer:
    def __init__(self, directories: Sequence[Path], choices: Mapping[str, Choice]) -> None:
        self._directories = directories
        self._chosen: dict[str, Choice] = dict(choices)  # of the command line, then the first `override` met in a file
        self.result = Composition()

    def parts(self, verb: str, package: str, added: Mapping[str, Choice]) -> list[_Part]:
        found = self._expand(verb, package, [({group: option}, "") for group, option in added.items()])
        self.result.choices = dict(reversed(self.result.choices.items()))
        return found

    def _expand(self, name: str, package: str, added: Sequence[tuple[dict[str, Choice], str]] = ()) -> list[_Part]:
        """Returns a file and those of its defaults list, in the order in which they are merged.

        As in Hydra, a list is worked through from its end, so that an option can choose for a group before it.
        """
        file, group = self._read(name), name.rpartition("/")[0]
        if file.package is not None:
            package = _absolute(file.package, package)
        for entry, comment in file.defaults:
            for key, option in entry.items() if isinstance(entry, dict) else ():
                if key.startswith("override "):
                    self._chosen.setdefault(_chosen_key(*_group(key, group, package)), option)
                elif not group and comment:
                    self.result.group_comments[_group(key, group, package)[0]] = comment
        entries = [*file.defaults, *added]
        if all(entry != "_self_" for entry, _ in entries):
            entries.append(("_self_", ""))
        parts: list[_Part] = []
        for entry, _ in reversed(entries):
            if entry == "_self_":
                parts = [(name, package, file), *parts]
            elif isinstance(entry, str):
                parts = [*self._expand(entry.lstrip("/") if entry[0] == "/" else _join(group, entry), package), *parts]
            else:
                for key, option in reversed(entry.items()):
                    if not key.startswith("override "):
                        parts = [*self._options(*_group(key, group, package), option), *parts]
        return parts

    def _options(self, group: str, package: str, option: Choice) -> list[_Part]:
        chosen = self._chosen.get(_chosen_key(group, package), option)
        self.result.choices[group] = chosen
        names = chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]
        return [part for name in names for part in self._expand(f"{group}/{name}", package)]

    def _read(self, name: str) -> ConfigFile:
        for directory in self._directories:
            if (path := directory / f"{name}.yaml").is_file():
                return read_config_file(path, name)
        raise ConfigError(f"no {name}.yaml in {', '.join(str(directory) for directory in self._directories)}")


def _group(entry: str, parent_group: str, parent_package: str) -> tuple[str, str]:
    """Returns the group that an entry of a defaults list names, and its package: "override /neck@_global_.neck"."""
    words = entry.split()[-1]
    path, _, package = words.partition("@")
    group = path.lstrip("/") if path.startswith("/") else _join(parent_group, path)
    return group, _absolute(package or path.lstrip("/").replace("/", "."), parent_package)


def _chosen_key(group: str, package: str) -> str:
    return group if package == group.replace("/", ".") else f"{group}@{package}"


def _absolute(package: str, parent: str) -> str:
    if package.split(".")[0] == "_global_":
        return package.removeprefix("_global_").removeprefix(".")
    return f"{parent}.{package}" if parent else package


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


def _section(keys: dict[str, Key], package: str, file: str) -> dict[str, Key]:
    for part in package.split(".") if package else ():
        if part not in keys or keys[part].value is not None:
            keys[part] = Key(value=None, file=file)
        keys = keys[part].keys
    return keys


def _merge(into: dict[str, Key], keys: Mapping[str, Key]) -> None:
    for name, key in keys.items():
        old = into.get(name)
        if old is None:
            old = into[name] = Key(value=key.value, above=key.above, beside=key.beside, file=key.file)
        elif key.value is None or (key.value == "{}" and old.value is None):
            old.value = None  # a section stays one; the first comment says what it is for
        else:
            old.value, old.file, old.keys = key.value, key.file, {}
            if key.comment:
                old.above, old.beside = key.above, key.beside
        _merge(old.keys, key.keys)
