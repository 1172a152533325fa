"""Expands sweeps: finds the value in each trial of a grid for every key that has several values."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from facerec.cli.config.config_files import config_directories, group_options, is_group
from facerec.cli.config.overrides import parse_overrides
from facerec.core.errors import ConfigError
from facerec.core.typed_text import shell_word


def choices_of(overrides: Sequence[str], *, config_dir: str | None = None) -> list[list[str]]:
    """Returns, for each override, its overrides in the trials; only the override itself if it is not a sweep.

    Raises:
        ConfigError: a sweep has no values, or they cannot be counted; the message gives a spelling that works.
    """
    choices: list[list[str]] = []
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        if not override.is_sweep_override():
            choices.append([text])
            continue
        values = _sweep_values(override, config_dir)
        choices.append([f"{override.get_key_element()}={value}" for value in values])
    return choices


def _sweep_values(override: Override, config_dir: str | None) -> list[str]:
    text, value = override.input_line, override.value()
    if override.is_interval_sweep():
        raise ConfigError(f"{text}: a grid needs values that can be counted, such as 0.3,0.4,0.5 or range(1,4)")
    if isinstance(value, Glob):
        return _glob_values(override, value, config_dir)
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{text}: shuffled values would give another grid each time; remove shuffle()")
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise ConfigError(f"{text}: {error}") from None
    if not values:
        raise ConfigError(f"{text}: it has no values, so the grid has no trials; range(1,4) is 1,2,3")
    return values


def _glob_values(override: Override, glob: Glob, config_dir: str | None) -> list[str]:
    group, directories = override.key_or_group, config_directories(config_dir)
    if not is_group(group, directories):
        raise ConfigError(f"{override.input_line}: glob() selects options of a group, and {group} is not a group")
    options = group_options(group, directories)
    if values := glob.filter(options):
        return values
    mend = f"{group} has {', '.join(options) or 'no options'}"
    folder, slash, pattern = glob.include[0].rpartition("/")
    if slash and is_group(f"{group}/{folder}", directories):
        mend = f"glob() searches one folder only: write {shell_word(f'+{group}/{folder}=glob({pattern})')}"
    raise ConfigError(f"{override.input_line}: it matches no option, so the grid has no trials; {mend}")
