"""Which overrides belong to a result: what names a run directory and what makes a row of a table."""

from collections.abc import Sequence

# How a run is launched, watched and stored; none of these changes what is learned. A name stands for the key, for
# everything below it, and for the group of that name. Where the data lies changes nothing: a run holds to the
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
    "data.source.height_px",  # of input, which counts
    "data.source.width_px",
    "trainer.device",
    "backbone.checkpoint_activations",
)


def changes_result(key: str) -> bool:
    """Whether the figures of a run depend on a key or group. `experiment` does, although it names no key."""
    return not any(key == free or key.startswith((f"{free}.", f"{free}/")) for free in FREE_KEYS)


def split_override(override: str) -> tuple[str, str]:
    """ "+head.m2=0.3" -> ("head.m2", "0.3"); "~augment" -> ("augment", ""). The nested group
    "experiment/table2=row" is the same as ("experiment", "table2/row").
    """
    key, _, value = override.lstrip("+~").partition("=")
    if key.startswith("experiment/"):
        return "experiment", f"{key.removeprefix('experiment/')}/{value}"
    return key, value


def setting_of(overrides: Sequence[str]) -> dict[str, str]:
    """The overrides that change the result, by key; where a key is given twice, the last one counts."""
    pairs = map(split_override, overrides)
    return {key: value for key, value in pairs if changes_result(key)}
