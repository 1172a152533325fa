"""Plots the number of images per identity."""

from collections.abc import Sequence
from pathlib import Path


def images_per_identity(bins: Sequence[tuple[int, int, int]], path: Path) -> None:
    """Plots a PNG with a bar for each bin.

    Args:
        bins: (fewest, most, number of identities), in order.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axis = figure.subplots()
    names = [f"{fewest}" if fewest == most else f"{fewest}-{most}" for fewest, most, _ in bins]
    bars = axis.bar(names, [number for *_, number in bins], width=0.9, color="tab:blue")
    axis.bar_label(bars, fontsize=8)
    axis.set_xlabel("images of an identity")
    axis.set_ylabel("identities")
    axis.tick_params(axis="x", labelrotation=45 if len(bins) > 8 else 0)
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
