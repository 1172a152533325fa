"""Knows which keys change a result: they name a run directory and a row of a table, and may not differ on resuming."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

_ABSENT = object()

# How a run is launched, monitored and stored; none of these changes what is learned. A name stands for the key, for all
# keys below it, and for the group of that name. The place of the data changes nothing either: a run compares the
# fingerprint of its data set instead.
FREE_KEYS = (
    "launch",
    "loader",
    "logging",
    "eval",
    "checkpoint",
    "resume",
    "run_dir",
    "profile",
    "data.root",
    "data.expect",
    "data.source.root",
    "data.source.height_px",  # a copy of the key of input, which is compared
    "data.source.width_px",
    "trainer.device",
    "backbone.checkpoint_activations",
)

# The length of a run. It changes the result, but a run may be resumed with another length in its directory.
LENGTH_KEYS = ("trainer.num_epochs", "trainer.num_steps")


def changes_result(key: str) -> bool:
    """True if the result of a run depends on a key or group. It is True for `experiment`, which names no key."""
    return not any(key == free or key.startswith((f"{free}.", f"{free}/")) for free in FREE_KEYS)


def split_override(override: str) -> tuple[str, str]:
    """Splits "+head.m2=0.3" into ("head.m2", "0.3"), and "~augment" into ("augment", ""). The nested group
    "experiment/table2=row" is the same as ("experiment", "table2/row").
    """
    key, _, value = override.lstrip("+~").partition("=")
    if key.startswith("experiment/"):
        return "experiment", f"{key.removeprefix('experiment/')}/{value}"
    return key, value


def setting_of(overrides: Sequence[str]) -> dict[str, str]:
    """Returns the overrides that change the result, by key; if a key is given twice, the last one counts."""
    pairs = map(split_override, overrides)
    return {key: value for key, value in pairs if changes_result(key)}


MOVED_TARGETS = {
    "facerec.data.synthetic.source.SyntheticSource": "facerec.synthetic.source.SyntheticSource",
}
"""The current places of classes that older stored configurations name by an earlier place."""


def differences(stored: Mapping[str, Any], current: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
    """Returns the differences between two resolved configurations, as lines: "head.m2: stored 0.5, now 0.4".

    Ignores keys that do not change the result (`FREE_KEYS`), and those in `but`.
    """
    before, now = dict(_flatten(stored)), dict(_flatten(current))
    return [
        f"{key}: stored {_shown(before.get(key, _ABSENT))}, now {_shown(now.get(key, _ABSENT))}"
        for key in sorted(before.keys() | now.keys())
        if changes_result(key) and key not in but and before.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            pairs += _flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", _plain(value)))
    return pairs


def _plain(value: Any) -> Any:
    """Returns the value as a YAML file would return it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return (
        MOVED_TARGETS.get(value, value) if isinstance(value, str) else str(value) if isinstance(value, Path) else value
    )


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else repr(value) if isinstance(value, str) else str(value)
