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
    "trust",
    "run_dir",
    "name",
    "group",
    "profile",
    "data.root",
    "data.expect",
    "data.source.root",
    "data.source.height_px",  # a copy of the key of input, which is compared
    "data.source.width_px",
    "trainer.device",
    "trainer.num_threads",
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


def without_null_length(setting: Mapping[str, str]) -> dict[str, str]:
    """Returns a setting in which a length that is null is left out beside the other length, since it says nothing."""
    steps, epochs = LENGTH_KEYS[::-1]
    unsaid = {other for key, other in ((steps, epochs), (epochs, steps)) if key in setting}
    return {key: value for key, value in setting.items() if key not in unsaid or value != "null"}


def merged(stored: Sequence[str], given: Sequence[str]) -> list[str]:
    """Returns the overrides of an earlier command followed by those of a later one, which replace the same keys.

    A length replaces the other one too, and another option of a group replaces the earlier values of its keys: with
    head=cosface after head=arcface head.m2=0.4, no m2 remains.
    """
    later = dict(map(split_override, given))
    earlier = dict(map(split_override, stored))
    replaced = set(later)
    if replaced & set(LENGTH_KEYS):
        replaced |= set(LENGTH_KEYS)
    sections = tuple(
        f"{key.replace('/', '.')}."
        for key, value in later.items()
        if value != earlier.get(key) and "." not in key and not value.startswith(("[", "{"))
    )
    kept = [(one, split_override(one)[0]) for one in stored]
    return [*(one for one, key in kept if key not in replaced and not key.startswith(sections)), *given]


MOVED_TARGETS = {
    "facerec.data.synthetic.source.SyntheticSource": "facerec.synthetic.source.SyntheticSource",
}
"""The current places of classes that older stored configurations name by an earlier place."""


def differences(stored: Mapping[str, Any], current: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
    """Returns the differences between two resolved configurations, as lines: "head.m2: stored 0.5, now 0.4".

    Ignores keys that do not change the result (`FREE_KEYS`), those in `but`, and keys that the stored configuration
    does not have and that are null now: they are newer than the run.
    """
    before, now = result_keys(stored), result_keys(current)
    return [
        f"{key}: stored {_shown(before.get(key, _ABSENT))}, now {_shown(now.get(key, _ABSENT))}"
        for key in sorted(before.keys() | now.keys())
        if key not in but and before.get(key) != now.get(key, _ABSENT)
    ]


def result_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a resolved configuration that change the result, with plain values: "head.m2" -> 0.5."""
    return {key: value for key, value in _flatten(config) if changes_result(key)}


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
