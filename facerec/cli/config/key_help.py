"""Builds the texts of `facerec VERB --help WORD`: about a group, an option, a section or a key.

Reads the YAML files without Hydra, so that the answer comes at once.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from facerec.cli.commands import command
from facerec.cli.config.commented import ConfigFile, Key, header_of, leaves, purpose, read_config_file, walk
from facerec.cli.config.config_files import config_directories, group_options
from facerec.cli.config.file_composition import Composition, compose_files, inherited_keys
from facerec.cli.config.key_table import TARGET, described, key_table, rows_of, wrapped
from facerec.cli.config.suggestions import names_elsewhere, option_meant, options_with_key, suggested_options
from facerec.core.errors import ConfigError


def help_about(verb: str, words: Sequence[str], *, config_dir: str | None = None) -> str:
    """Returns the keys, comments and defaults of each word: a group, `group=option`, a section, a key or its last part.

    Raises:
        ConfigError: the verb has nothing of that name; names the nearest ones.
    """
    helper = _Helper(verb, config_directories(config_dir), config_dir)
    return "\n\n".join(dict.fromkeys(text for word in words for text in helper.about(word)))


def options_of(group: str, composition: Composition, directories: Sequence[Path]) -> list[str]:
    """Returns the options of a group; those in subfolders only if the subfolder is no group of the verb itself."""
    nested = group_options(group, directories, nested=True)
    others = [f"{other.removeprefix(group + '/')}/" for other in composition.choices if other.startswith(f"{group}/")]
    return [option for option in nested if not option.startswith(tuple(others))]


def header_of_option(name: str, directories: Sequence[Path]) -> str:
    """Returns the comment at the head of a file such as "head/arcface"."""
    for directory in directories:
        if (path := directory / f"{name}.yaml").is_file():
            return header_of(path.read_text(encoding="utf-8"))
    return ""


class _Helper:
    def __init__(self, verb: str, directories: Sequence[Path], config_dir: str | None) -> None:
        self._verb, self._directories, self._config_dir = verb, directories, config_dir
        self._composition = compose_files(verb, directories)
        self._groups = list(self._composition.choices)

    def about(self, word: str) -> Iterator[str]:
        """Returns the texts for one word of the command line."""
        name, _, value = word.lstrip("+~").partition("=")
        if name in self._groups and value not in ("", "null", "[]"):
            for option in value.strip("[]").split(","):
                yield self._option(name, option.strip())
        elif (group := name.replace(".", "/")) in self._groups:
            yield self._group(group)
        elif (key := self._composition.find(name)) is not None:
            yield self._section(name, key) if key.value is None else self._keys(name)
        else:
            yield from self._meant(name)

    def _meant(self, word: str) -> Iterator[str]:
        """Answers a word that is no full name: an option, the last part of a key, or a word of another program."""
        names = [name for name, _ in walk(self._composition.keys)]
        if meant := [name for name in names_elsewhere(word) if name.partition("=")[0] in [*names, *self._groups]]:
            yield f"{word} is called {' or '.join(meant)} here."
            for name in meant:
                yield from self.about(name)
        elif same := [name for name in names if name.rpartition(".")[2] == word]:
            yield self._keys(*same)
        elif options := options_with_key(word, self._verb, self._directories):
            yield f"{word} is a key of {', '.join(options)}."
            yield from self.about(options[0])
        elif found := self._options_named(word):
            for group, option in found:
                yield self._option(group, option)
        else:
            raise ConfigError(
                f"{word}: facerec {self._verb} has no group, option, section or key of this name{self._nearest(word)} "
                f"All names: {self._command()}"
            )

    def _options_named(self, word: str) -> list[tuple[str, str]]:
        """Returns the groups and options of this name, else those that other programs call so."""
        exact = [(group, word) for group in self._groups if word in self._options(group)]
        others = ((group, option_meant(group, word, self._directories)) for group in self._groups)
        return exact or [(group, option) for group, option in others if option is not None]

    def _options(self, group: str) -> list[str]:
        return options_of(group, self._composition, self._directories)

    def _nearest(self, word: str) -> str:
        names = [name for name, _ in walk(self._composition.keys) if not name.endswith(TARGET)]
        options = [f"{group}={option}" for group in self._groups for option in self._options(group)]
        known = {name.rpartition("=" if "=" in name else ".")[2]: name for name in [*options, *names, *self._groups]}
        known |= {name: name for name in names}
        found = difflib.get_close_matches(word, known, n=3, cutoff=0.7) or difflib.get_close_matches(word, known, n=1)
        nearest = [known[one] for one in found]
        return f"; the nearest: {', '.join(dict.fromkeys(nearest))}." if nearest else "."

    def _group(self, group: str) -> str:
        chosen = self._composition.choices[group]
        defaults = chosen if isinstance(chosen, list) else [chosen]
        options = self._options(group)
        parts = [wrapped(f"{group}: {self._composition.group_comments.get(group) or self._purpose(group, defaults)}")]
        if options != ["default"]:
            rows = [
                (
                    f"{option}{' *' * (option in defaults)}",
                    purpose(header_of_option(f"{group}/{option}", self._directories)),
                )
                for option in options
            ]
            which = "* is the default" if any(option in defaults for option in options) else "none by default"
            how = f"{group}=[OPTION,...]" if isinstance(chosen, list) else f"{group}=OPTION"
            parts.append(f"Options (choose with {how}; {which}):\n{described(rows)}")
        key = self._composition.find(group.replace("/", "."))
        if key is not None and key.value is None:
            title = "Keys" if options == ["default"] else f"Keys of {group}={defaults[0]}" if chosen else "Keys"
            parts += self._tables(self._composition, group.replace("/", "."), key, title)
        if options and options != ["default"]:
            other = next((option for option in options if option not in defaults), options[0])
            which = "another" if defaults[0:1] != [] and chosen is not None else "an"
            parts.append(f"The keys of {which} option: {self._command(f'{group}={other}')}")
        return "\n\n".join(parts)

    def _option(self, group: str, option: str) -> str:
        if option not in self._options(group):
            meant = suggested_options(group, option, self._directories)
            options = ", ".join(self._options(group))
            raise ConfigError(f"{group}={option}: no such option{meant} {group} takes: {options}")
        name = f"{group}/{option}"
        parts = [wrapped(f"{group}={option}: {header_of_option(name, self._directories)}")]
        is_list = isinstance(self._composition.choices[group], list)
        file = read_config_file(next(p for d in self._directories if (p := d / f"{name}.yaml").is_file()), name)
        if file.package == "_global_":
            return "\n\n".join([*parts, *_recipe(file)])
        composition = compose_files(self._verb, self._directories, {group: [option] if is_list else option})
        section = group.replace("/", ".")
        key = composition.find(section)
        if key is not None and key.value is None:
            parts += self._tables(composition, section, key, "Keys")
        if not (self._directories[0] / f"{name}.yaml").is_file():
            parts += self._inherited(group, option, {} if key is None else key.keys)
        return "\n\n".join(parts)

    def _inherited(self, group: str, option: str, keys: Mapping[str, Key]) -> Iterator[str]:
        """Returns what an option of the user's own inherits; its constructor, which help does not import, decides."""
        inherited = [name for name in inherited_keys(group, self._directories) if name not in {*keys, TARGET}]
        if inherited:
            chosen = f"{group}={option}"
            show = command(self._verb, chosen, options=["--cfg", "job"], config_dir=self._config_dir)
            yield wrapped(f"It inherits those of these keys that its constructor takes: {', '.join(inherited)}.")
            yield f"Its whole configuration: {show}"

    def _section(self, name: str, key: Key) -> str:
        return "\n\n".join(
            [
                wrapped(f"{name}: {key.comment}" if key.comment else name),
                *self._tables(self._composition, name, key, "Keys"),
            ]
        )

    def _tables(self, composition: Composition, section: str, key: Key, title: str) -> Iterator[str]:
        """Returns the tables of a section: the keys of its option, those of every option, and what is built from it."""
        group = section.replace(".", "/")
        files = list(composition.headers)  # the chosen option comes after those that it builds on
        own = {name: item for name, item in key.keys.items() if _is_from(item, f"{group}/")}
        common = {name: item for name, item in key.keys.items() if name not in own}
        own = dict(sorted(own.items(), key=lambda one: -files.index(one[1].file)))
        if own:
            yield f"{title}, with their defaults:\n{key_table(rows_of(composition, own, f'{section}.'))}"
        if common:
            title = f"Keys of every option of {group}" if own and group in self._groups else title
            yield f"{title}, with their defaults:\n{key_table(rows_of(composition, common, f'{section}.'))}"
        if TARGET in key.keys:
            yield f"In Python: {key.keys[TARGET].value}"

    def _keys(self, *names: str) -> str:
        rows = []
        for name in names:
            key = self._composition.find(name)
            assert key is not None
            inside = {name.rpartition(".")[2]: key}
            prefix = name[: len(name) - len(name.rpartition(".")[2])]
            rows += list(rows_of(self._composition, inside, prefix))
        sections = {name.rpartition(".")[0] for name in names}
        section = sections.pop() if len(sections) == 1 else ""
        more = f"\n\nThe other keys of {section}: {self._command(section)}" if section else ""
        return f"{key_table(rows)}{more}"

    def _command(self, *words: str) -> str:
        return command(self._verb, *words, options=["--help"], config_dir=self._config_dir)

    def _purpose(self, group: str, options: Sequence[str | None]) -> str:
        return next((header_of_option(f"{group}/{option}", self._directories) for option in options if option), "")


def _recipe(file: ConfigFile) -> Iterator[str]:
    """Returns what an experiment, or another file that sets keys of all sections, chooses and sets."""
    entries = [entry for entry, _ in file.defaults if isinstance(entry, dict)]
    if chosen := [f"{group.split()[-1].lstrip('/')}={option}" for one in entries for group, option in one.items()]:
        yield f"It chooses: {' '.join(chosen)}"
    if rows := [(name, key.value or "", key.comment) for name, key in leaves(file.keys)]:
        yield f"It sets:\n{key_table(rows)}"


def _is_from(key: Key, group: str) -> bool:
    """True if a key, or a key inside it, was set by an option of the group."""
    return key.file.startswith(group) or any(_is_from(inside, group) for inside in key.keys.values())
