"""What is printed at the end of a verb: tables of benchmark figures, where files lie, what to run next."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from facerec.core.metric import Metric
from facerec.core.typed_text import typed_command
from facerec.runs.run_directory import RunDirectory


def where_it_lies(run_dir: Path, checkpoint: Path) -> str:
    """Returns the places of a run's checkpoint, and of its curves and TensorBoard logs where it has them."""
    run = RunDirectory(run_dir.resolve())
    lines = [f"checkpoint   {checkpoint.resolve()}"]
    if run.curves.exists():
        lines.append(f"curves       {run.curves}")
    if run.tensorboard.is_dir():
        tensorboard = shutil.which("tensorboard") or Path(sys.executable).parent / "tensorboard"
        lines.append(f"TensorBoard  {typed_command([tensorboard, '--logdir', run.tensorboard])}")
    return "\n".join(lines)


def benchmark_table(metrics: Sequence[Metric]) -> str:
    """Returns a table with a column per benchmark and a row per metric, from metrics under eval/<benchmark>."""
    by_benchmark: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_benchmark.setdefault(metric.benchmark, []).append(metric)
    return metric_table(by_benchmark)


MAX_TABLE_WIDTH = 110  # characters; benchmarks that do not fit follow in another table below


def metric_table(columns: Mapping[str, Sequence[Metric]]) -> str:
    """Returns a table with a row per metric; empty without any.

    Args:
        columns: the metrics of each column, by its title. Metrics of one short name share a row.
    """
    words = list(dict.fromkeys(metric.short_name for metrics in columns.values() for metric in metrics))
    cells = {title: {metric.short_name: metric.text() for metric in metrics} for title, metrics in columns.items()}
    tables: list[str] = []
    waiting = list(columns)
    while words and waiting:
        shown = waiting[:1]
        while len(shown) < len(waiting):
            wider = _metric_table(words, waiting[: len(shown) + 1], cells)
            if len(wider.splitlines()[1]) > MAX_TABLE_WIDTH:
                break
            shown = waiting[: len(shown) + 1]
        tables.append(_metric_table(words, shown, cells))
        waiting = waiting[len(shown) :]
    return "\n\n".join(tables)


def _metric_table(words: Sequence[str], titles: Sequence[str], cells: Mapping[str, Mapping[str, str]]) -> str:
    rows = [[word, *(cells[title].get(word, "-") for title in titles)] for word in words]
    return text_table(("metric", *titles), [row for row in rows if set(row[1:]) != {"-"}])


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, left-aligned, under a ruled header."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    header = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    return "\n".join([header, "-" * sum(widths, 2 * (len(widths) - 1)), *lines])
