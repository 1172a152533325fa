"""Builds the texts of `facerec --help` and of each verb's help from the YAML files. Sees neither Hydra nor torch."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from facerec.cli.commands import command
from facerec.cli.config.commented import leaves, read_config_file
from facerec.cli.config.config_files import config_directories, find_config
from facerec.cli.config.file_composition import Composition, compose_files
from facerec.cli.config.key_help import options_of
from facerec.cli.config.key_table import Row, described, key_table, line_width, rows_of, wrapped
from facerec.cli.verb_list import VERBS, Verb

OPTIONS = """\
  -h, --help [NAME]  print this text, or what NAME is: a group, GROUP=OPTION, a section or a key
  --cfg job          print the configuration that would run, with comments, and stop
  --config-dir DIR   a directory with your own groups and options"""
GRID_OPTIONS = """
  -m, --multirun     run a grid: key=a,b,c, range(1,4) or glob(*) as a value; each combination is a trial
  --jobs N           with -m: run N trials at a time, on the same machine and the same GPU; default 1"""


def overview() -> str:
    """Returns the text of `facerec --help`."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items())
    return (
        "facerec trains face-recognition models end to end.\n\n"
        "Usage: facerec VERB [KEY=VALUE ...] [OPTIONS]\n\n"
        f"Verbs:\n{verbs}\n\n"
        f"Options of every verb:\n{OPTIONS}\n\n"
        "facerec VERB --help lists the verb's keys and the options of its groups."
    )


def verb_help(name: str, *, config_dir: str | None = None) -> str:
    """Returns the text of `facerec <verb> --help`: purpose, the keys that people change first, groups, more help.

    Raises:
        ConfigError: `config_dir` is not a directory.
    """
    verb, directories = VERBS[name], config_directories(config_dir)
    composition = compose_files(name, directories)
    parts = [
        f"Usage: facerec {name} [KEY=VALUE ...] [OPTIONS]",
        wrapped(composition.headers[name] or verb.summary),
        f"Options:\n{OPTIONS}{GRID_OPTIONS if verb.multirun else ''}",
    ]
    if first := key_table(_first_rows(verb, composition)):
        parts.append(f"What most people change first, with the defaults:\n{first}")
    if groups := _groups(composition, directories):
        parts.append("Groups (choose with GROUP=OPTION; set an option's keys with GROUP.KEY=VALUE):\n" + groups)
    rows = _own_rows(name, verb, composition, directories)
    parts.append(f"{'Other keys' if first else 'Keys'}, with their defaults:\n{key_table(rows)}")
    parts.append(f"More help:\n{described(_more_help(name, verb, composition, config_dir))}")
    parts.append("Examples:\n" + textwrap.indent("\n".join(verb.examples), "  "))
    return "\n\n".join(parts)


def _first_rows(verb: Verb, composition: Composition) -> Iterator[Row]:
    """Returns a row for each of the verb's first keys: a group with its default option, or a key."""
    for name in verb.first_keys:
        if name in composition.choices:
            default = composition.choices[name]
            yield name, "null" if default is None else str(default), composition.group_comments.get(name, "")
        elif (key := composition.find(name)) is not None:
            section, dot, last = name.rpartition(".")
            yield from rows_of(composition, {last: key}, f"{section}{dot}")


def _own_rows(name: str, verb: Verb, composition: Composition, directories: Sequence[Path]) -> list[Row]:
    """Returns the rows of the keys of the verb's own file, and of the groups in its defaults list.

    A verb with first keys has so many others that only those outside of sections are listed.
    """
    file = read_config_file(find_config(name, directories), name)
    own = {key for key, _ in leaves(file.keys)} - set(composition.choices)
    rows = list(rows_of(composition, composition.keys))
    if verb.first_keys:
        return [row for row in rows if row[0] in own - set(verb.first_keys) and "." not in row[0]]
    groups = {group for entry, _ in file.defaults if isinstance(entry, dict) for group in entry}
    return [
        *(row for row in rows if row[0] in own and row[0].partition(".")[0] not in groups),
        *(row for row in rows if row[0].partition(".")[0] in groups),
    ]


def _more_help(name: str, verb: Verb, composition: Composition, config_dir: str | None) -> Iterator[tuple[str, str]]:
    """Returns a command for each kind of question, with what it answers."""

    def asked(*words: str, option: Sequence[str] = ("--help",)) -> str:
        return command(name, *words, options=option, config_dir=config_dir)

    if not verb.first_keys:
        yield asked(next(iter(composition.keys))), "a key, a section, a group or an option alone"
        return
    sections = [key for key, item in composition.keys.items() if item.value is None]
    yield asked("head"), "a group: its options, and the keys of the default one"
    yield asked("head=adaface"), "an option: its keys"
    yield asked("trainer"), f"a section: its keys; there are {', '.join(sections)}"
    yield asked("num_steps"), "a key, by its full name or its last part"
    yield asked(option=("--cfg", "job")), "all keys, with their comments and the values that would run"


def _groups(composition: Composition, directories: Sequence[Path]) -> str:
    """Returns one paragraph for each group with a choice."""
    lines = []
    for name in composition.choices:
        options = options_of(name, composition, directories)
        if options != ["default"]:
            text = f"{name}: {', '.join(options)}"
            lines.append(textwrap.fill(text, line_width(), initial_indent="  ", subsequent_indent="      "))
    return "\n".join(lines)
