"""The texts of `facerec --help` and `facerec <verb> --help`, read from the YAML files. Sees neither Hydra nor torch."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from facerec.cli.config.config_files import config_directories, find_config, group_options
from facerec.cli.verb_list import VERBS

OPTIONS = """\
  -h, --help         this text
  --cfg job          print the configuration that would run, and stop
  --config-dir DIR   a directory with groups and options of your own"""
GRID_OPTIONS = """
  -m, --multirun     run a grid: key=a,b,c, range(1,4) or glob(*) for a value, every combination a trial of its own
  --jobs N           with -m: N trials at a time, on the same machine and the same GPU; default 1"""


def overview() -> str:
    """What `facerec --help` prints."""
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
    """What `facerec <verb> --help` prints: purpose, options, groups with their options, keys with their comments.

    Raises:
        ConfigError: `config_dir` is no directory.
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
        parts.append("Groups (choose with GROUP=OPTION; what an option holds are keys GROUP.KEY=VALUE):\n" + groups)
    parts.append("Keys:\n" + textwrap.indent(keys, "  "))
    parts.append("Examples:\n" + textwrap.indent("\n".join(verb.examples), "  "))
    return "\n\n".join(parts)


def _split(text: str) -> tuple[str, str]:
    """The comment at the head of a primary configuration, and its keys without the defaults list."""
    header = re.match(r"(?:#.*\n)*", text)
    comment = header.group() if header else ""
    keys = re.sub(r"^defaults:.*\n(?:(?:[ \t]*-|[ \t]+\S|[ \t]*#).*\n)*", "", text[len(comment) :], flags=re.MULTILINE)
    return re.sub(r"^# ?", "", comment, flags=re.MULTILINE).strip(), keys.strip()


def _groups(text: str, directories: Sequence[Path]) -> str:
    """One paragraph for each group in the defaults list."""
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
