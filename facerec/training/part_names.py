"""Parts of a run by name in the configuration: which entry of a mapping counts for a parameter or a module."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from facerec.core.errors import ConfigError

PARTS = {"backbone": "backbone", "neck": "neck", "head": "objective.head", "loss": "objective.terms"}
"""What the configuration calls a part, and what its parameters' names begin with."""


def spoken(name: str) -> str:
    """The name of a parameter or module as a user writes it: objective.head.centres.weight is head.centres.weight."""
    for part, beginning in PARTS.items():
        if f"{name}.".startswith(f"{beginning}."):
            return part + name[len(beginning) :]
    return name


def entry_for(name: str, entries: Collection[str]) -> str | None:
    """The entry that counts for a parameter or module: of those that begin its name, up to a dot, the longest."""
    beginnings = [entry for entry in entries if f"{spoken(name)}.".startswith(f"{entry}.")]
    return max(beginnings, key=len, default=None)


def check_entries(entries: Mapping[str, Any], names: Iterable[str], *, section: str, default: Any) -> None:
    """Refuses entries that begin the name of no parameter. A part that this run has not may stand at its default.

    Raises:
        ConfigError: names the key, and the nearest name there is.
    """
    known: dict[str, None] = {}
    for name in names:
        pieces = spoken(name).split(".")
        known |= {".".join(pieces[:count]): None for count in range(1, len(pieces) + 1)}
    for entry, value in entries.items():
        if entry in known or (entry in PARTS and value == default):
            continue
        nearest = difflib.get_close_matches(entry, known, n=1)
        parts = ", ".join(part for part in PARTS if part in known)
        meant = f"did you mean {nearest[0]}?" if nearest else f"the parts are {parts}."
        raise ConfigError(
            f"{section}.{entry}: no parameter of this run has a name that begins so; {meant} Expected a part, or the "
            "beginning of a parameter's name up to a dot"
        )
