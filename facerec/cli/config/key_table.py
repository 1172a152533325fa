"""Lays out keys with their defaults and comments in columns."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator

from facerec.cli.config.commented import Key, leaves
from facerec.cli.config.file_composition import Composition

TARGET = "_target_"
Row = tuple[str, str, str]  # name, default, comment


def line_width() -> int:
    """Returns the number of columns of a help text: those of the terminal, from 72 to 120."""
    return min(max(shutil.get_terminal_size(fallback=(120, 24)).columns, 72), 120)


def rows_of(composition: Composition, keys: dict[str, Key], prefix: str = "") -> Iterator[Row]:
    """Returns a row for each key with a value, except `_target_`; `prefix` is the full name of their section and a dot.

    A default that is a reference, such as ${seed}, is shown as its value.
    """
    for name, key in leaves(keys, prefix):
        if name.rpartition(".")[2] == TARGET or key.value is None:
            continue
        value, follows = composition.resolve(key.value)
        comments = [key.comment] if key.comment else []
        yield name, value, "; ".join([*comments, *([f"follows {follows}"] if follows else [])])


def key_table(rows: Iterable[Row]) -> str:
    """Returns one paragraph of lines: the name, the default and the comment of each row in columns."""
    rows, width = list(rows), line_width()
    names = min(max((len(name) for name, _, _ in rows), default=0), 36)
    values = min(max((len(value) for _, value, _ in rows if len(value) <= 14 and "\n" not in value), default=0), 14)
    start = 2 + names + 2 + values + 2
    lines = []
    for name, value, comment in rows:
        first = f"  {name:{names}}  {value:{values}}  " if "\n" not in value else f"  {name:{names}}  "
        comments = textwrap.wrap(comment, width - start, break_long_words=False, break_on_hyphens=False)
        if len(first) <= start and comments:
            first += " " * (start - len(first)) + comments.pop(0)
        lines += [first.rstrip(), *(" " * start + comment for comment in comments)]
        if "\n" in value:
            lines.append(textwrap.indent(value, "      "))
    return "\n".join(lines)


def described(rows: Iterable[tuple[str, str]]) -> str:
    """Returns lines with a name and a text each, in two columns."""
    rows, width = list(rows), line_width()
    names = min(max((len(name) for name, _ in rows), default=0), 48)
    indent = " " * (2 + names + 2)
    return "\n".join(
        textwrap.fill(
            text or "-",
            width,
            initial_indent=f"  {name:{names}}  ",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in rows
    )


def wrapped(text: str) -> str:
    """Returns a text with its long lines broken; indented lines, such as commands, stay as they are."""
    lines = (
        [line] if line.startswith(" ") else textwrap.wrap(line, line_width(), break_on_hyphens=False) or [""]
        for line in text.splitlines()
    )
    return "\n".join(line for some in lines for line in some)
