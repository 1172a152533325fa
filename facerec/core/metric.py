"""A metric: a number about a model, with everything needed to print it, plot it and compare it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from facerec.core.errors import ConfigError, DataError

SHARE, COSINE, NUMBER = "share", "cosine", "number"
UNITS = (SHARE, COSINE, NUMBER)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number about a model.

    Attributes:
        name: a word, such as accuracy; or a path such as eval/lfw/accuracy (see `within`).
        value: the number.
        unit: share (0 to 1, printed in per cent), cosine, or number.
        higher_is_better: None if neither direction is better, as for a threshold.
        interval: its lower and upper end; for a mean over folds, one standard deviation to each side.
        is_leading: True for the one metric that judges the benchmark.

    Raises:
        DataError: the unit is not one of `UNITS`.
    """

    name: str
    value: float
    unit: str = NUMBER
    higher_is_better: bool | None = True
    interval: tuple[float, float] | None = None
    is_leading: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))  # JSON has no numpy numbers
        if self.unit not in UNITS:
            raise DataError(f"metric {self.name}: its unit is {self.unit!r}; expected one of {', '.join(UNITS)}")

    @property
    def benchmark(self) -> str:
        """Returns the name without its last part and without eval/; empty for a bare word."""
        return self.name.rpartition("/")[0].removeprefix("eval/")

    @property
    def short_name(self) -> str:
        """Returns the last part of the name."""
        return self.name.rpartition("/")[2]

    def within(self, path: str) -> "Metric":
        """Returns the metric under a path: accuracy within eval/lfw is eval/lfw/accuracy."""
        return replace(self, name=f"{path}/{self.name}")

    def text(self) -> str:
        """Returns the value in readable form, with its interval: 99.53 ± 0.30 %, 0.253, 0.9991."""
        if self.unit != SHARE:
            return f"{self.value:.3f}" if self.unit == COSINE else f"{self.value:.4f}"
        if self.interval is None:
            return f"{100 * self.value:.2f} %"
        below, above = self.value - self.interval[0], self.interval[1] - self.value
        if abs(below - above) < 1e-9:
            return f"{100 * self.value:.2f} ± {100 * above:.2f} %"
        return f"{100 * self.value:.2f} ({100 * self.interval[0]:.2f} to {100 * self.interval[1]:.2f}) %"


def values_of(metrics: Iterable[Metric]) -> dict[str, float]:
    """Returns the values by name, as files and TensorBoard store them."""
    return {metric.name: metric.value for metric in metrics}


def details_of(metrics: Iterable[Metric]) -> dict[str, dict[str, Any]]:
    """Returns all attributes but name and value, by name, as plain values; files store them next to `values_of`."""
    return {
        metric.name: {key: value for key, value in asdict(metric).items() if key not in ("name", "value")}
        for metric in metrics
    }


def metrics_from(values: Mapping[str, float], details: Mapping[str, Mapping[str, Any]] | None = None) -> list[Metric]:
    """Returns the metrics that a file holds in the forms of `values_of` and `details_of`.

    Files that were written before metrics had details hold values only. Their details are then those of the only
    benchmark that existed, verification on pairs.
    """
    found = []
    for name, value in values.items():
        about = dict((details or {}).get(name) or _VERIFICATION.get(_kind(name), {}))
        if about.get("interval") is not None:
            about["interval"] = tuple(about["interval"])
        found.append(Metric(name=name, value=value, **about))
    return found


def leading(metrics: Iterable[Metric]) -> list[Metric]:
    """Returns the metrics that judge benchmarks."""
    return [metric for metric in metrics if metric.is_leading]


def quality(metrics: Iterable[Metric], *, best_metric: str | None = None) -> float | None:
    """Returns one number that grows with the quality of the model; None if no metric can judge it.

    Args:
        metrics: the metrics of all benchmarks.
        best_metric: the name of the metric to use. None: the mean of the leading metrics if all share name and unit,
            else the leading metric of the first benchmark.

    Raises:
        ConfigError: no metric has that name, or neither direction of the metric is better.
    """
    chosen = judging(metrics, best_metric=best_metric)
    if not chosen:
        return None
    mean = sum(metric.value for metric in chosen) / len(chosen)
    return -mean if chosen[0].higher_is_better is False else mean


def judging(metrics: Iterable[Metric], *, best_metric: str | None = None) -> list[Metric]:
    """Returns the metrics whose mean `quality` takes; empty if none can judge the model. Raises as `quality`."""
    metrics = list(metrics)
    if best_metric is not None and metrics:
        chosen = [metric for metric in metrics if metric.name == best_metric]
        if not chosen or chosen[0].higher_is_better is None:
            judged = ", ".join(metric.name for metric in metrics if metric.higher_is_better is not None)
            raise ConfigError(f"checkpoint.best_metric={best_metric}; expected one of {judged}, or null")
        return chosen
    chosen = leading(metrics)
    if len({(metric.short_name, metric.unit, metric.higher_is_better) for metric in chosen}) > 1:
        chosen = chosen[:1]
    return chosen


_VERIFICATION: dict[str, dict[str, Any]] = {
    "accuracy": {"unit": SHARE, "is_leading": True},
    "accuracy_std": {"unit": SHARE, "higher_is_better": None},
    "eer": {"unit": SHARE, "higher_is_better": False},
    "tar_at_far": {"unit": SHARE},
    "threshold_cosine": {"unit": COSINE, "higher_is_better": None},
    "threshold_at_far": {"unit": COSINE, "higher_is_better": None},
}
"""Details of the metrics in files without details, by `_kind`."""


def _kind(name: str) -> str:
    """Returns the last part of a name, without the rate after at_far_."""
    word = name.rpartition("/")[2]
    return word.rpartition("_")[0] if "_at_far_" in word else word
