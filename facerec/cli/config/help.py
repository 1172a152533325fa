"""Builds the texts of `facerec --help` and of each verb's help from the YAML files. Sees neither Hydra nor torch."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from facerec.cli.config.config_files import config_directories, find_config, group_options
from facerec.cli.verb_list import VERBS

OPTIONS = """\
  -h, --help         print this text
  --cfg job          print the configuration that would run, and stop
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
    """Returns the text of `facerec <verb> --help`: purpose, options, groups, and keys with their comments.

    Raises:
        ConfigError: `config_dir` is not a directory.
    """
    verb, directories = VERBS[name], config_directories(config_dir)
    text = find_config(name, directories).read_text()
    header, keys = _split(text)
    parts = [
        f"Usage: facerec {name} [KEY=VALUE ...] [OPTIONS]",
        header or verb.summary,
        f"Options:\n{OPTIONS}{GRID_OPTIONS if verb.multirun else ''}",
    ]
    if groups := _groups(text, directories):
        parts.append("Groups (choose with GROUP=OPTION; set an option's keys with GROUP.KEY=VALUE):\n" + groups)
    parts.append("Keys:\n" + textwrap.indent(keys, "  "))
    parts.append("Examples:\n" + textwrap.indent("\n".join(verb.examples), "  "))
    return "\n\n".join(parts)


def _split(text: str) -> tuple[str, str]:
    """Returns the comment at the head of a primary configuration, and its keys without the defaults list."""
    header = re.match(r"(?:#.*\n)*", text)
    comment = header.group() if header else ""
    keys = re.sub(r"^defaults:.*\n(?:(?:[ \t]*-|[ \t]+\S|[ \t]*#).*\n)*", "", text[len(comment) :], flags=re.MULTILINE)
    return re.sub(r"^# ?", "", comment, flags=re.MULTILINE).strip(), keys.strip()


def _groups(text: str, directories: Sequence[Path]) -> str:
    """Returns one paragraph for each group in the defaults list."""
    names = []
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(entry, dict):
            names += [
                key.removeprefix("override ").removeprefix("optional ").lstrip("/").split("@")[0] for key in entry
            ]
    lines = []
    for name in names:
        options = ", ".join(group_options(name, directories, nested=True))
        lines.append(textwrap.fill(f"{name}: {options}", width=110, initial_indent="  ", subsequent_indent="      "))
    return "\n".join(lines)
