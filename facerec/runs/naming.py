"""Names run directories readably, from the settings that change the result."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

RUNS = Path("runs")
MAX_NAME_LENGTH = 100


def directory_of(experiments: Sequence[str], setting: Mapping[str, str]) -> Path:
    """Returns `runs/<experiments>/<setting>`; without an experiment `runs/train/<setting>`.

    The names hold letters, digits, `.`, `_` and `-` only, because a path with = or , would need quotes in every later
    command. They end with a hash if this rule, or their maximal length, has changed them.

    Args:
        experiments: for example "table2/row"; its folders become folders.
        setting: the keys that change the result, with their values; a key with "" is written without a value.
    """
    parts = "+".join(experiments).split("/") if experiments else ["train"]
    return RUNS.joinpath(*map(_safe, parts), _name(setting))


def _name(setting: Mapping[str, str]) -> str:
    if not setting:
        return "default"
    pairs = sorted(setting.items())
    readable = "__".join(f"{key}-{value}" if value else key for key, value in pairs)
    return _safe(readable, whole="\n".join(f"{key}={value}" for key, value in pairs))


def _safe(readable: str, whole: str = "") -> str:
    """Returns a file name for a text; it ends with a hash of the whole text if the name alone is ambiguous."""
    whole = whole or readable
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", readable)
    ambiguous = name.count("__") > whole.count("\n")
    if name == readable and not ambiguous and len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[: MAX_NAME_LENGTH - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
