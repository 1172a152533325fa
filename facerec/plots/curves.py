"""Plots the curves of a training: loss, target angle, learning rate, benchmarks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facerec.core.metric import SHARE, Metric, leading, metrics_from

PANELS = (
    ("Loss", ("train/loss",)),
    ("Angle to the class centre (degrees)", ("train/target_angle_deg",)),
    ("Learning rate", ("train/lr",)),
)


def training_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws a PNG of four panels.

    Args:
        lines: the lines of a metrics.jsonl, each with "step" and values by name.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, 2).flat
    judged = _leading(lines)
    panels = [*PANELS, (_title(judged.values()), tuple(sorted(judged)))]
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            steps, values = zip(*points, strict=True) if points else ((), ())
            metric = judged.get(name)
            if metric is not None and metric.unit == SHARE:
                values = tuple(100 * value for value in values)
            axis.plot(
                steps,
                values,
                marker="o" if metric is not None or len(points) == 1 else None,
                markersize=4,
                linewidth=1.6,
                label=metric and metric.benchmark,
            )
            if metric is not None and values:
                falls = values[-1] < max(values)
                axis.annotate(
                    f"{values[-1]:.2f}",
                    (steps[-1], values[-1]),
                    (0, -7 if falls else 7),
                    ha="right",
                    va="top" if falls else "bottom",
                    textcoords="offset points",
                )
        axis.margins(y=0.12)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        if any(name in judged for name in names):
            axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _leading(lines: Sequence[Mapping[str, Any]]) -> dict[str, Metric]:
    """Returns the leading metrics of all benchmarks, by name, each with one of its values."""
    found: dict[str, Metric] = {}
    for line in lines:
        values = {name: value for name, value in line.items() if name.startswith("eval/") and value is not None}
        found |= {metric.name: metric for metric in leading(metrics_from(values, line.get("metric_details")))}
    return found


def _title(metrics: Iterable[Metric]) -> str:
    kinds = {(metric.short_name, metric.unit) for metric in metrics} or {("accuracy", SHARE)}
    if len(kinds) > 1:
        return "Benchmarks"
    word, unit = kinds.pop()
    return f"Benchmarks: {word.replace('_', ' ')}{' (%)' if unit == SHARE else ''}"
