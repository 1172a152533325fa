"""Quotes text for a shell: words of a command, and overrides (`key=value`) in Hydra's grammar."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z_./][\w./@-]*", re.ASCII)
_NOT_TEXT = {"null", "true", "false", "inf", "nan", "infinity"}


def shell_word(text: str) -> str:
    """Quotes one word for a shell, if that is necessary.

    Bytes that are not text, control characters and letters that this terminal cannot show are written as numbers.
    """
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        is_shown = text.isprintable()
    except UnicodeEncodeError:
        is_shown = False
    if is_shown:
        return shlex.quote(text)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(text)) + "'"


def override_of(key: str, value: object) -> str:
    """Returns `key=value` for Hydra's grammar, such that the key gets exactly this value.

    Args:
        key: a key or a group.
        value: text, a path, a number, a truth value, None, or a list of these.
    """
    return f"{key}={_in_grammar(value)}"


def typed(key: str, value: object) -> str:
    """Returns what to type in a shell so that `key` gets exactly this value; see `override_of`."""
    return shell_word(override_of(key, value))


def typed_command(words: Sequence[str | Path]) -> str:
    """Returns a command line that can be pasted into a shell."""
    return " ".join(shell_word(str(word)) for word in words)


def _in_grammar(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_in_grammar, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT and not _is_number(text):
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else OmegaConf would insert the value of another key
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + (found[2] and '\\"'), text) + '"'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
