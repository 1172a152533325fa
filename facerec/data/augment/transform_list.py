"""Reads lists of transforms from configurations: one mapping each, the transform's name to its arguments."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from facerec.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One transform of a list.

    Attributes:
        where: its place in the configuration, `augment.transforms[0]`, for messages.
        name: name of the transform.
        arguments: its arguments, by name.
    """

    where: str
    name: str
    arguments: Mapping[str, Any]


class Transform(Protocol):
    """A transform of crops that runs in the loader's processes."""

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Transforms uint8 (H, W, 3) RGB to the same shape. A pure function of the image and the generator's state.

        Returns a new image, and does not modify the input.
        """
        ...


def entries(transforms: Any, *, key: str) -> Iterator[Entry]:
    """Returns the entries of a list such as `[{HorizontalFlip: {p: 0.5}}]`.

    Args:
        transforms: the list.
        key: the list's key in the configuration.

    Raises:
        ConfigError: it is not a list, or an entry is not one name with its arguments.
    """
    if isinstance(transforms, str) or not isinstance(transforms, Iterable):
        raise ConfigError(f"{key}={transforms!r}; expected a list of transforms, such as [{{HorizontalFlip: {{}}}}]")
    for number, transform in enumerate(transforms):
        where = f"{key}[{number}]"
        if not isinstance(transform, Mapping) or len(transform) != 1:
            raise ConfigError(
                f"{where} is {transform!r}; expected one name with its arguments, as {{HorizontalFlip: {{p: 0.5}}}}"
            )
        ((name, arguments),) = transform.items()
        if not isinstance(arguments, Mapping):
            raise ConfigError(f"{where}: {name} has {arguments!r}; expected its arguments by name, or {{}} for none")
        yield Entry(where=where, name=str(name), arguments=arguments)


def check_names(constructor: Callable[..., Any], entry: Entry, *, besides: Iterable[str] = ()) -> None:
    """Refuses arguments that a constructor does not take.

    Args:
        constructor: its signature says what it takes.
        entry: the transform with its arguments.
        besides: further allowed names.

    Raises:
        ConfigError: names the argument, the nearest allowed one, and all of them.
    """
    taken = [*inspect.signature(constructor).parameters, *besides]
    for name in entry.arguments:
        if name not in taken:
            raise ConfigError(
                f"{entry.where}: {entry.name} takes no argument {name!r}{did_you_mean(str(name), taken)} "
                f"It takes: {', '.join(taken)}"
            )


def built_alone(cls: type, entry: Entry) -> tuple[float, Any]:
    """Returns the share `p` of the samples, 0.5 by default, and the facerec transform with the other arguments.

    Raises:
        ConfigError: the transform does not take a name, or a value does not fit.
    """
    check_names(cls, entry, besides=("p",))
    arguments = dict(entry.arguments)
    p = check_probability(f"{entry.where}.{entry.name}", arguments.pop("p", 0.5))
    try:
        return p, cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{entry.where}: {error}") from None
    except TypeError as error:
        raise ConfigError(f"{entry.where}: {entry.name} does not take {arguments}: {error}") from None


def check_probability(where: str, p: Any) -> float:
    """Returns a share of the samples, 0 to 1. Raises ConfigError for anything else."""
    return check_number(f"{where}.p", p, low=0.0, high=1.0)


def check_number(key: str, value: Any, *, low: float, high: float) -> float:
    """Returns a number between two others, both included. Raises ConfigError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{key}={value!r}; expected a number in {low:g} .. {high:g}")
    return float(value)


def check_range(key: str, value: Any, *, low: float, high: float) -> tuple[float, float]:
    """Returns two numbers between `low` and `high`, the smaller first. Raises ConfigError for anything else."""
    if isinstance(value, str) or not isinstance(value, Iterable) or len(pair := list(value)) != 2:
        raise ConfigError(f"{key}={value!r}; expected two numbers, [smallest, largest]")
    first, last = (check_number(key, number, low=low, high=high) for number in pair)
    if first > last:
        raise ConfigError(f"{key}={value!r}; expected the smaller number first")
    return first, last
