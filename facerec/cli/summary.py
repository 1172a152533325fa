"""What is printed at the end of a verb: tables of benchmark figures, where files lie, what to run next."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def own_command() -> str:
    """How the user can call facerec again: `facerec` where the PATH finds it, else with its whole path."""
    script = Path(sys.argv[0])
    if script.name != "facerec":
        return f"{sys.executable} -m facerec"
    found = shutil.which("facerec")
    return "facerec" if found and Path(found).resolve() == script.resolve() else str(script.resolve())


def where_it_lies(run_dir: Path, checkpoint: Path) -> str:
    """The places of a run's checkpoint, curves and TensorBoard logs."""
    run_dir = run_dir.resolve()
    tensorboard = shutil.which("tensorboard") or Path(sys.executable).parent / "tensorboard"
    return (
        f"checkpoint   {checkpoint.resolve()}\n"
        f"curves       {run_dir / 'curves.png'}\n"
        f"TensorBoard  {tensorboard} --logdir {run_dir / 'tensorboard'}"
    )


def benchmark_table(metrics: Mapping[str, float]) -> str:
    """A table with one row per benchmark, from figures named eval/<benchmark>/<figure>; empty without any."""
    by_benchmark: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if name.startswith("eval/") and name.count("/") == 2:
            _, benchmark, figure = name.split("/")
            by_benchmark.setdefault(benchmark, {})[figure] = value
    rows = [verification_row(benchmark, figures) for benchmark, figures in by_benchmark.items()]
    return text_table(VERIFICATION_COLUMNS, rows) if rows else ""


VERIFICATION_COLUMNS = ("benchmark", "accuracy", "threshold (cosine)", "AUC", "EER", "TAR at FAR")


def verification_row(name: str, figures: Mapping[str, float]) -> list[str]:
    """The cells of one benchmark's row."""
    tars = {key.removeprefix("tar_at_far_"): value for key, value in figures.items() if key.startswith("tar_at_far_")}
    return [
        name,
        f"{100 * figures['accuracy']:.2f} ± {100 * figures['accuracy_std']:.2f} %",
        f"{figures['threshold_cosine']:.3f}",
        f"{figures['auc']:.4f}",
        f"{100 * figures['eer']:.2f} %",
        ", ".join(f"{100 * value:.1f} % at {far}" for far, value in tars.items()) or "-",
    ]


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, left-aligned, under a ruled header."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    header = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    return "\n".join([header, "-" * sum(widths, 2 * (len(widths) - 1)), *lines])
