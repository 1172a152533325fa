"""Parts of a run by their names in the configuration: finds the entry for a parameter or a module."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from facerec.core.errors import ConfigError

PARTS = {"backbone": "backbone", "neck": "neck", "head": "objective.head", "loss": "objective.terms"}
"""The names of parts in the configuration, and the prefixes of their parameters' names."""


def spoken(name: str) -> str:
    """Returns a name as users write it: head.centres.weight for the parameter objective.head.centres.weight."""
    for part, beginning in PARTS.items():
        if f"{name}.".startswith(f"{beginning}."):
            return part + name[len(beginning) :]
    return name


def entry_for(name: str, entries: Collection[str]) -> str | None:
    """Returns the entry for a parameter or module: the longest one that begins its name, up to a dot."""
    beginnings = [entry for entry in entries if f"{spoken(name)}.".startswith(f"{entry}.")]
    return max(beginnings, key=len, default=None)


def check_entries(entries: Mapping[str, Any], names: Iterable[str], *, section: str, default: Any) -> None:
    """Refuses entries that match no parameter. A part that this run does not have may keep its default.

    Raises:
        ConfigError: names the key, and the nearest existing name.
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
            f"{section}.{entry}: no parameter of this run has a name that begins like this; {meant} Expected a part, "
            "or the beginning of a parameter's name up to a dot"
        )
