"""Pairs of which one kind is much more frequent: there, a system that always gives the same answer is mostly right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facerec.core.metric import SHARE, Metric

UNBALANCED = 2.0
"""Pairs are unbalanced if one kind is at least this many times as frequent as the other. A constant answer is then
right for two pairs of three, which a weak model hardly beats; public benchmarks have about as many of both."""

BALANCED_ACCURACY = "balanced_accuracy"
_IF_ALWAYS = "accuracy_if_always_"


@dataclass(frozen=True, kw_only=True)
class ConstantAnswer:
    """The more frequent answer to unbalanced pairs.

    Attributes:
        answer: same or different.
        accuracy: the share of the pairs for which it is right.
    """

    answer: str
    accuracy: float

    def metric(self) -> Metric:
        """Returns the accuracy as a metric, which shows in a table that the pairs are unbalanced."""
        return Metric(name=f"{_IF_ALWAYS}{self.answer}", value=self.accuracy, unit=SHARE, higher_is_better=None)


def constant_answer(is_same: np.ndarray) -> ConstantAnswer | None:
    """Returns the more frequent answer; None if the pairs are not unbalanced, or all of one kind.

    Args:
        is_same: bool (P,).
    """
    num_same = int(is_same.sum())
    num_different = len(is_same) - num_same
    fewer, more = sorted((num_same, num_different))
    if fewer == 0 or more < UNBALANCED * fewer:
        return None
    answer = "same" if num_same > num_different else "different"
    return ConstantAnswer(answer=answer, accuracy=more / len(is_same))


def unbalanced_pairs(name: str, is_same: np.ndarray) -> str | None:
    """Returns a warning about the pairs of a benchmark, before any model is evaluated; None if they are balanced.

    Args:
        name: the benchmark.
        is_same: bool (P,).
    """
    constant = constant_answer(is_same)
    if constant is None:
        return None
    kind = "positive" if constant.answer == "different" else "negative"
    return (
        f'{name}: always saying "{constant.answer}" is right for {100 * constant.accuracy:.2f} % of its pairs: read '
        f"{BALANCED_ACCURACY} and eer, not accuracy, and choose by checkpoint.best_metric=eval/{name}/"
        f"{BALANCED_ACCURACY}; auto_pairs.num_{kind} of pack makes more {kind} pairs"
    )


def constant_answer_marks(metrics: Sequence[Metric]) -> list[str]:
    """Returns the warnings of `beaten_by_constant` for all benchmarks of a model.

    Args:
        metrics: those of any benchmarks, under eval/<benchmark>.
    """
    names = dict.fromkeys(metric.benchmark for metric in metrics)
    marks = (beaten_by_constant(name, [one for one in metrics if one.benchmark == name]) for name in names)
    return [mark for mark in marks if mark is not None]


def beaten_by_constant(name: str, metrics: Sequence[Metric]) -> str | None:
    """Returns a warning if a constant answer beats or nears a model's accuracy: the model makes more than half of its
    errors.

    Args:
        name: the benchmark, for the message.
        metrics: those of one benchmark, under any path.
    """
    found = {metric.short_name: metric for metric in metrics}
    constant = next((metric for word, metric in found.items() if word.startswith(_IF_ALWAYS)), None)
    if constant is None or 2 * (1 - found["accuracy"].value) <= 1 - constant.value:
        return None
    answer = constant.short_name.removeprefix(_IF_ALWAYS)
    balanced, eer = (f"{word} {found[word].text()}" for word in (BALANCED_ACCURACY, "eer"))
    return (
        f'{name}: always saying "{answer}" has an accuracy of {constant.text()}, the model {found["accuracy"].text()}: '
        f"this accuracy says nothing; read {balanced} and {eer}"
    )
