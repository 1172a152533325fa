"""Checks whether a value from a YAML file or the command line fits the annotation of an argument.

pydantic's TypeAdapter was compared and is not used: in strict mode it refuses lists for tuples, text for paths and
every section with a `_target_`, so the walk over the annotation would remain; its messages omit alternatives such as
null; it accepts true for Literal[1]; and importing it makes every command slower.
"""

import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Any


class Misfit(Exception):
    """A value that does not fit; `value` is the innermost one, `expected` describes what would fit."""

    def __init__(self, value: Any, expected: str) -> None:
        super().__init__(f"{value!r}; expected {expected}")
        self.value = value
        self.expected = expected


def fit(value: Any, annotation: Any) -> Any:
    """Returns the value in the annotation's type: an int as float, text as Path, a list as tuple; else unchanged.

    A truth value is not a number. A mapping with `_target_` fits every class, because its result is known only after it
    is built. Every value fits an annotation that restricts nothing (Any, a type variable).

    Raises:
        Misfit: the value does not fit.
    """
    annotation = _bare(annotation)
    if annotation is Any:
        return value
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _fit_union(value, arguments, annotation)
    if origin is typing.Literal:
        return _fit_literal(value, arguments, annotation)
    if annotation in _SCALARS:
        return _fit_scalar(value, annotation)
    container = origin or annotation
    if inspect.isclass(container) and container not in (str, bytes):
        if issubclass(container, Mapping):
            return _fit_mapping(value, arguments, annotation)
        if container in _LISTS or issubclass(container, tuple | list | set | frozenset):
            return _fit_list(value, container, arguments, annotation)
        if container is not object and not (isinstance(value, Mapping) and "_target_" in value):
            raise Misfit(value, _words(annotation))
    return value


def _fit_union(value: Any, members: tuple[Any, ...], annotation: Any) -> Any:
    # First the members that take the value unchanged, so that 3 stays an int for `float | int`.
    for exact in (True, False):
        for member in members:
            try:
                fitted = fit(value, member)
            except Misfit:
                continue
            if not exact or type(fitted) is type(value):
                return fitted
    raise Misfit(value, _words(annotation))


def _fit_literal(value: Any, choices: tuple[Any, ...], annotation: Any) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    raise Misfit(value, _words(annotation))


def _fit_scalar(value: Any, annotation: Any) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is Path and isinstance(value, str):
        return Path(value).expanduser()
    if annotation is int and isinstance(value, float) and value.is_integer():
        raise Misfit(value, f"{_words(int)}: write {int(value)}")
    if (annotation is int and isinstance(value, bool)) or not isinstance(value, annotation):
        raise Misfit(value, _words(annotation))
    return value


def _fit_list(value: Any, container: type, arguments: tuple[Any, ...], annotation: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise Misfit(value, _words(annotation))
    if issubclass(container, tuple) and arguments and Ellipsis not in arguments:
        if len(value) != len(arguments):
            raise Misfit(value, _words(annotation))
        return tuple(fit(item, member) for item, member in zip(value, arguments, strict=True))
    members = [fit(item, arguments[0] if arguments else Any) for item in value]
    return members if container in _LISTS or container is list else container(members)


def _fit_mapping(value: Any, arguments: tuple[Any, ...], annotation: Any) -> Any:
    if not isinstance(value, Mapping):
        raise Misfit(value, _words(annotation))
    if not arguments:
        return value
    return {fit(key, arguments[0]): fit(item, arguments[1]) for key, item in value.items()}


def _bare(annotation: Any) -> Any:
    """Returns the annotation without Annotated and NewType; a type variable restricts nothing."""
    while True:
        if hasattr(annotation, "__metadata__"):
            annotation = annotation.__origin__
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__"):  # `type Name = ...` of Python 3.12
            annotation = annotation.__value__
        else:
            return Any if isinstance(annotation, typing.TypeVar) else annotation


_SCALARS = (bool, int, float, str, Path, type(None))
_LISTS = (Sequence, Iterable, Collection, MutableSequence)
_WORDS = {
    bool: "true or false",
    int: "a whole number (int)",
    float: "a number (float)",
    str: "text",
    Path: "a path",
    type(None): "null",
}


def _words(annotation: Any) -> str:
    """Returns an annotation in the words of a message."""
    annotation = _bare(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(_words(member) for member in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    container = origin or annotation
    if inspect.isclass(container) and issubclass(container, Mapping):
        return "a mapping"
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: [{', '.join(_words(member) for member in arguments)}]"
    if inspect.isclass(container) and (container in _LISTS or issubclass(container, tuple | list | set | frozenset)):
        return f"a list, each element {_words(arguments[0])}" if arguments else "a list"
    return f"a section with a _target_ that makes a {getattr(annotation, '__name__', annotation)}"
