"""Plots embeddings in the plane, one panel per loss, as in Figure 3 of arXiv 1801.07698."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: the text above it.
        points_ND: float (N, 2).
        labels_N: int (N,), they choose the colours.
    """

    title: str
    points_ND: np.ndarray
    labels_N: np.ndarray


def plane_figure(panels: Sequence[Panel], path: Path, *, columns: int) -> None:
    """Writes a PNG of the points, with their directions as marks on a circle around them."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_aspect("equal")
    for panel, axis in zip(panels, axes.flat, strict=False):
        length_N = np.linalg.norm(panel.points_ND, axis=1)
        radius = 1.15 * np.percentile(length_N, 99)
        colours = colormaps["tab10"](panel.labels_N % 10)
        axis.add_patch(Circle((0, 0), radius, fill=False, color="0.85", linewidth=1))
        axis.scatter(*panel.points_ND.T, s=4, c=colours, linewidths=0)
        ends_ND = panel.points_ND / length_N[:, None]
        axis.scatter(*(radius * ends_ND).T, s=6, c=colours, linewidths=0)
        axis.set_xlim(-1.1 * radius, 1.1 * radius)
        axis.set_ylim(-1.1 * radius, 1.1 * radius)
        axis.set_title(panel.title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
