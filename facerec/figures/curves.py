"""The curves of a training: loss, target angle, learning rate, benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS = (
    ("Loss", ("train/loss",)),
    ("Angle to the class centre (degrees)", ("train/target_angle_deg",)),
    ("Learning rate", ("train/lr",)),
)


def training_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws a PNG of four panels.

    Args:
        lines: the lines of a metrics.jsonl, each with "step" and figures.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, 2).flat
    accuracies = sorted({name for line in lines for name in line if name.endswith("/accuracy")})
    panels = [*PANELS, ("Verification accuracy (%)", tuple(accuracies))]
    for axis, (title, names) in zip(axes, panels, strict=True):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            steps, values = zip(*points, strict=True) if points else ((), ())
            is_share = name.endswith("/accuracy")
            axis.plot(
                steps,
                [100 * value for value in values] if is_share else values,
                marker="o" if is_share or len(points) == 1 else None,
                markersize=4,
                linewidth=1.6,
                label=name.removeprefix("eval/").removesuffix("/accuracy"),
            )
            if is_share and values:
                falls = values[-1] < max(values)
                axis.annotate(
                    f"{100 * values[-1]:.2f}",
                    (steps[-1], 100 * values[-1]),
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
        if title.startswith("Verification") and names:
            axis.legend(frameon=False)
    figure.savefig(path, dpi=110)
