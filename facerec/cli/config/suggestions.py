"""Finds the keys and options that a user may have meant by a word that does not exist. Sees neither Hydra nor torch."""

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from facerec.cli.config.commented import walk
from facerec.cli.config.config_files import group_names, group_options
from facerec.cli.config.file_composition import compose_files
from facerec.cli.config.synonyms import KEYS, OPTIONS


def suggested_keys(
    path: str, known: Collection[str], directories: Sequence[Path], *, verb: str, value: object = None
) -> str:
    """Returns the middle of a message about a key that does not exist: "; did you mean trainer.num_epochs?" or ".".

    In this order: what other programs call so, the key with the same last part, the options with which the verb has
    the key, and the most similar key.

    Args:
        path: what was given, such as "learning_rate" or "optimizer.learning_rate".
        known: the full names of all keys, sections and groups of the verb.
        directories: those of `config_directories`.
        verb: the name of a primary configuration.
        value: the value that was given; where a group is meant, its option is suggested with it.
    """
    if meant := keys_meant(path, known):
        return _did_you_mean(list(_with_options(meant, value, directories)))
    for name in (path, *names_elsewhere(path)):
        if options := options_with_key(name, verb, directories):
            own = "it" if name == path else name
            return f"; {own} is a key of {_listed(options[:3] + ['others'] * (len(options) > 3), 'and')}."
    return _did_you_mean(difflib.get_close_matches(path, list(known), n=1, cutoff=0.6))


def keys_meant(path: str, known: Collection[str]) -> list[str]:
    """Returns keys, groups, or keys with values that other programs call so; else the only key with that last part."""
    if meant := [name for name in names_elsewhere(path) if name.partition("=")[0] in known and name != path]:
        return meant
    same = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2] and name != path]
    return same if len(same) == 1 else []


def names_elsewhere(path: str) -> tuple[str, ...]:
    """Returns what is meant by a key of another program: keys, groups, or keys with values; not all need to exist."""
    words = (path.removeprefix("config."), path.rpartition(".")[2])
    return next((_KEYS[_plain(word)] for word in words if _plain(word) in _KEYS), ())


def suggested_options(group: str, option: str, directories: Sequence[Path]) -> str:
    """Returns the middle of a message about an option that does not exist: "; did you mean iresnet50?" or ".".

    Args:
        group: the group to which the option was to belong.
        option: what was given.
        directories: those of `config_directories`.
    """
    options = group_options(group, directories, nested=True)
    if (same := option_meant(group, option, directories)) is not None:
        return _did_you_mean([same])
    others = ((other, option_meant(other, option, directories)) for other in group_names(directories) if other != group)
    if found := [f"{other}={meant}" for other, meant in others if meant is not None and "/" not in other]:
        return _did_you_mean(found)
    return _did_you_mean(difflib.get_close_matches(option, options, n=1, cutoff=0.6))


def option_meant(group: str, word: str, directories: Sequence[Path]) -> str | None:
    """Returns the option that other programs call so, or whose name differs only in case, `_` and `-`."""
    options = group_options(group, directories, nested=True)
    meant = ({_plain(option): option for option in options} | _OPTIONS.get(group, {})).get(_plain(word))
    return meant if meant in options else None


def options_with_key(path: str, verb: str, directories: Sequence[Path]) -> list[str]:
    """Returns the options, such as "schedule=step", with which the verb has a key.

    Args:
        path: the full name of a key, or its last part.
        verb: the name of a primary configuration.
        directories: those of `config_directories`.
    """
    found = []
    for group, chosen in compose_files(verb, directories).choices.items():
        section = group.replace("/", ".")
        if group in ("experiment", "debug") or ("." in path and not path.startswith(f"{section}.")):
            continue
        for option in group_options(group, directories):
            is_list = isinstance(chosen, list)
            keys = compose_files(verb, directories, {group: [option] if is_list else option}).keys
            names = [name for name, _ in walk(keys) if name.startswith(f"{section}.")]
            if path in names or any(name.rpartition(".")[2] == path for name in names):
                found.append(f"{group}={f'[{option}]' if is_list else option}")
    return found


def _did_you_mean(suggestions: Sequence[str]) -> str:
    return f"; did you mean {_listed(suggestions, 'or')}?" if suggestions else "."


def _listed(words: Sequence[str], conjunction: str) -> str:
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}" if len(words) > 1 else words[0]


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", word.lower())


_KEYS = {_plain(word): meant for word, meant in KEYS.items()}
_OPTIONS = {group: {_plain(word): meant for word, meant in table.items()} for group, table in OPTIONS.items()}


def _with_options(names: Sequence[str], value: object, directories: Sequence[Path]) -> Iterator[str]:
    """Adds the option that `value` means to the groups in `names`; leaves out a group where it means none."""
    for name in names:
        if value is None or not group_options(name, directories, nested=True):
            yield name
        elif (option := option_meant(name, str(value), directories)) is not None:
            yield f"{name}={option}"
        elif len(names) == 1:
            yield name
