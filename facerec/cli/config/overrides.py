"""Reads the overrides of a command line with Hydra's grammar; an error shows the text that works."""

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from facerec.core.errors import ConfigError
from facerec.core.typed_text import typed

_KEY = re.compile(r"(\+\+|\+|~)?[\w$][\w$./:@-]*")
# Matches quoted text, or a tilde that starts a path at the start of a value or of an element of a list.
_HOME = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?<=[=,\[\s])~(?=[/,\]]|$)""")


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parses `key=value`, `+key=value` and `~key`; `~` at the start of a path becomes the home directory.

    Raises:
        ConfigError: an override does not parse; the message shows how to quote it.
    """
    parser = OverridesParser.create()
    return [_parse(parser, override) for override in overrides]


def expand_home(override: str) -> str:
    """Replaces the `~` of unquoted paths, which Hydra's grammar does not take, and keeps quoted ones."""
    key, equals, value = override.partition("=")
    return key + _HOME.sub(lambda found: found[1] or os.path.expanduser("~"), equals + value)


def shell_form(key: str, value: str) -> str:
    """Returns what to type in a shell so that `key` gets exactly the text `value`; for a list, each element as text."""
    if value.startswith("[") and value.endswith("]"):
        return typed(key, [_without_quotes(element) for element in value[1:-1].split(",")])
    return typed(key, _without_quotes(value))


def key_of(override: Override) -> str:
    """Returns the key or group that an override changes: without `+` or `~`, with the package of a group."""
    return override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"


def _parse(parser: OverridesParser, override: str) -> Override:
    key, equals, value = override.partition("=")
    if not equals and not key.startswith("~"):
        raise ConfigError(f"{override}: expected key=value, for example seed=1")
    if not _KEY.fullmatch(key):
        raise ConfigError(f"{override}: {key!r} is not a key; expected names joined by dots, as in head.m2=0.5")
    try:
        return parser.parse_overrides([expand_home(override)])[0]
    except HydraException as error:
        text = str(error)
        reason = "".join(f" ({line})" for line in text.splitlines() if "while evaluating" in line)
        raise ConfigError(
            f"{override}: the value does not parse{reason}. Text with = ( ) [ ] {{ }} , # & ; ' or non-ASCII letters "
            f"needs double quotes, and single quotes around them for the shell: {shell_form(key, value)}"
        ) from None


def _without_quotes(text: str) -> str:
    return text.strip().strip('"')
