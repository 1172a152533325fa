"""Reads a YAML file of the configuration as a reader sees it: each default as it is written, with its comments.

Sees neither Hydra nor OmegaConf, whose import takes longer than a help text may.
"""

import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facerec.core.errors import ConfigError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(kw_only=True)
class Key:
    """A key of the configuration.

    Attributes:
        value: the value as it is written, for example "[0.9, 0.999]"; None for a section.
        above, beside: its comments, without `#`: the lines directly above it, and the one on its own line.
        file: the file that has set it, for example "head/arcface".
        keys: the keys of a section.
    """

    value: str | None
    above: tuple[str, ...] = ()
    beside: str = ""
    file: str
    keys: dict[str, "Key"] = field(default_factory=dict)

    @property
    def comment(self) -> str:
        """Returns all comments as one text."""
        return " ".join([*self.above, *([self.beside] if self.beside else [])])


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A file of the configuration.

    Attributes:
        header: the comment at its head, without `#` and without `# @package`.
        package: the `# @package` at its head, if any.
        defaults: the entries of its defaults list, each with the comment beside it.
        keys: its other keys.
    """

    header: str
    package: str | None
    defaults: tuple[tuple[Any, str], ...]
    keys: dict[str, Key]


def read_config_file(path: Path, name: str) -> ConfigFile:
    """Returns the content of a file; `name`, for example "head/arcface", is kept in its keys.

    Raises:
        ConfigError: it is not YAML, or not a mapping.
    """
    text = path.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: expected keys with values, as in m2: 0.5")
    source = _Source(text, name)
    package = re.search(r"^# *@package +(\S+)", text[: source.header_end], re.MULTILINE)
    keys = {} if root is None else source.keys_of(root)
    entries: tuple[tuple[Any, str], ...] = ()
    if root is not None and "defaults" in keys:
        del keys["defaults"]
        (node,) = (value for key, value in root.value if key.value == "defaults")
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{path}: defaults is not a list")
        entries = tuple((_plain(entry), source.beside(entry)) for entry in node.value)
    return ConfigFile(header=header_of(text), package=package and package[1], defaults=entries, keys=keys)


def header_of(text: str) -> str:
    """Returns the comment at the head of a file, without `#` and without `# @package`."""
    lines = text[: _header_end(text)].splitlines()
    return "\n".join(re.sub(r"^# ?", "", line) for line in lines if not re.match(r"# *@package ", line))


def purpose(header: str) -> str:
    """Returns the first sentence of a file's header."""
    text = " ".join(header.split("\n  ")[0].split())
    return re.split(r"(?<=[^.]\.) ", text, maxsplit=1)[0]


def walk(keys: dict[str, Key], prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Returns all keys with their full names, each section before its keys."""
    for name, key in keys.items():
        yield f"{prefix}{name}", key
        yield from walk(key.keys, f"{prefix}{name}.")


def leaves(keys: dict[str, Key], prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Returns the keys that have values, with their full names."""
    return ((name, key) for name, key in walk(keys, prefix) if key.value is not None)


def _header_end(text: str) -> int:
    found = re.match(r"(?:#.*(?:\n|$))*", text)
    return found.end() if found else 0


class _Source:
    """Finds the comments around the nodes of a YAML text."""

    def __init__(self, text: str, name: str) -> None:
        self._name, self._lines = name, text.splitlines()
        self.header_end = _header_end(text)
        self._num_header_lines = text[: self.header_end].count("\n")

    def keys_of(self, mapping: yaml.MappingNode) -> dict[str, Key]:
        keys = {}
        for name, value in mapping.value:
            is_section = isinstance(value, yaml.MappingNode) and value.value
            keys[str(name.value)] = Key(
                value=None if is_section else self._text(value),
                above=self._above(name.start_mark.line),
                beside=self._after(*_end(name)) if value.start_mark.line > name.end_mark.line else self.beside(value),
                file=self._name,
                keys=self.keys_of(value) if is_section else {},
            )
        return keys

    def beside(self, node: yaml.Node) -> str:
        return self._after(*_end(node))

    def _above(self, line: int) -> tuple[str, ...]:
        first = line
        while first > self._num_header_lines and self._lines[first - 1].lstrip().startswith("#"):
            first -= 1
        return tuple(re.sub(r"^\s*# ?", "", text) for text in self._lines[first:line])

    def _after(self, line: int, column: int) -> str:
        rest = self._lines[line][column:] if line < len(self._lines) else ""
        found = re.search(r"(?:^|[\s:,\]}])#\s*(.*)", rest)
        return found[1].strip() if found else ""

    def _text(self, node: yaml.Node) -> str:
        line, column = node.start_mark.line, node.start_mark.column
        end_line, end_column = _end(node)
        if isinstance(node, yaml.SequenceNode) and not node.flow_style:
            end_column = sys.maxsize  # with the comment on its last line
        if line == end_line:
            return self._lines[line][column:end_column] if line < len(self._lines) else ""
        first, *rest = [*self._lines[line:end_line], self._lines[end_line][:end_column]]
        if isinstance(node, yaml.ScalarNode):
            return "\n".join([first[column:], textwrap.indent(textwrap.dedent("\n".join(rest)), "  ")])
        return "\n".join([first[column:], *(text[column:] for text in rest)])


def _end(node: yaml.Node) -> tuple[int, int]:
    """Returns the line and column after a node. A block ends with its last element, not with the comments after it."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    if node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line:  # after the line break of a text block
        return node.end_mark.line - 1, sys.maxsize
    return node.end_mark.line, node.end_mark.column


def _plain(node: yaml.Node) -> Any:
    """Returns an entry of a defaults list: text, None, a list or a mapping."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    return None if node.tag == "tag:yaml.org,2002:null" else node.value
