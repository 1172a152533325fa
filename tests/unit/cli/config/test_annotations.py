"""Which values fit which annotations."""

import enum
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from facerec.cli.config.annotations import Misfit, fit


class Part:
    pass


@pytest.mark.parametrize(
    ("value", "annotation", "fitted"),
    [
        (3, float, 3.0),
        (3, int | float, 3),
        (3, float | int, 3),
        (0.5, float, 0.5),
        (True, bool, True),
        (None, int | None, None),
        (None, Optional[int], None),  # noqa: UP045 - foreign code spells it so
        ("a", str | Path, "a"),
        ("a", Path, Path("a")),
        ("b", Literal["a", "b"], "b"),
        ([1, 2], tuple[float, float], (1.0, 2.0)),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2], Sequence[float], [1.0, 2.0]),
        ([1, "x"], list, [1, "x"]),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ([{"a": {"p": 1}}], Sequence[Mapping[str, Mapping[str, Any]]], [{"a": {"p": 1}}]),
        ({"_target_": "x.Part"}, Part, {"_target_": "x.Part"}),
        ({"_target_": "x.f"}, Callable[[int], int], {"_target_": "x.f"}),
        ("anything", Any, "anything"),
        (7, object, 7),
    ],
)
def test_value_fits_and_gets_the_annotated_type(value, annotation, fitted):
    result = fit(value, annotation)
    assert result == fitted
    assert type(result) is type(fitted)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("O.45", float, "a number (float)"),
        (True, float, "a number (float)"),
        (True, int, "a whole number (int)"),
        (1, bool, "true or false"),
        (1e4, int, "a whole number (int): write 10000"),
        (0.5, int, "a whole number (int)"),
        (5, str, "text"),
        (None, str, "text"),
        ("c", Literal["a", "b"], "one of 'a', 'b'"),
        (True, Literal[1], "one of 1"),
        ("x", int | None, "a whole number (int), or null"),
        ([1], tuple[int, int], "a list of 2: [a whole number (int), a whole number (int)]"),
        ("ab", Sequence[str], "a list, each element text"),
        (["a", 1], list[str], "text"),
        ([1], Mapping[str, int], "a mapping"),
        ({"a": "b"}, dict[str, int], "a whole number (int)"),
        ("Part", Part, "a section with a _target_ that makes a Part"),
        ("x", enum.Enum, "a section with a _target_ that makes a Enum"),
    ],
)
def test_misfit_says_what_would_fit(value, annotation, expected):
    with pytest.raises(Misfit) as caught:
        fit(value, annotation)
    assert caught.value.expected == expected
