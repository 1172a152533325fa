"""The text at the end of a verb: tables of metrics, the places of files, the next command."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from facerec.cli.commands import command
from facerec.core.metric import Metric, judging, metrics_from, quality
from facerec.core.typed_text import override_of, typed_command
from facerec.runs.checkpoints import packages_of
from facerec.runs.comparison import split_override
from facerec.runs.run_directory import RunDirectory
from facerec.runs.run_log import read_metrics

NUM_FOLDS = 10
"""The number of folds that `facerec evaluate` uses unless it is told another."""


def where_it_lies(run_dir: Path, checkpoint: Path) -> str:
    """Returns the places of a run's checkpoint, and of its curves and TensorBoard logs if it has them.

    Paths are relative if the run directory is.
    """
    run = RunDirectory(run_dir)
    lines = [f"checkpoint   {checkpoint}"]
    if run.curves.exists():
        lines.append(f"curves       {run.curves}")
    if run.tensorboard.is_dir():
        beside_python = Path(sys.executable).parent / "tensorboard"
        tensorboard = "tensorboard" if shutil.which("tensorboard") == str(beside_python) else beside_python
        lines.append(f"TensorBoard  {typed_command([tensorboard, '--logdir', run.tensorboard])}")
    return "\n".join(lines)


def trust_overrides(run_dir: Path) -> list[str]:
    """Returns the override that a command needs besides `model=` to open a run with parts of the user's own package."""
    packages = packages_of(RunDirectory(run_dir).checkpoints)
    return [override_of("trust", packages if len(packages) > 1 else packages[0])] if packages else []


def evaluate_command(run_dir: Path, *, which: str | None = None, sets: Sequence[Path] = ()) -> str:
    """Returns the command that evaluates a run on the benchmarks of its training.

    Args:
        run_dir: the run.
        which: the checkpoint, such as best; None: the last.
        sets: verification files to evaluate on instead.
    """
    run = RunDirectory(run_dir)
    chosen = [
        one for one in run.read_overrides() if split_override(one)[0].startswith(("eval/benchmarks", "eval.benchmarks"))
    ]
    num_folds = (run.read_config().get("eval") or {}).get("num_folds", NUM_FOLDS)
    if num_folds != NUM_FOLDS:
        chosen.append(override_of("num_folds", num_folds))
    model = str(run_dir) if which is None else f"{run_dir}@{which}"
    on = [override_of("sets", sets)] if sets else []
    return command("evaluate", override_of("model", model), *trust_overrides(run_dir), *on, *chosen, "baselines=true")


def best_and_next(run_dirs: Iterable[Path]) -> str:
    """Returns two lines: the best of finished runs by their final metrics, and the command that evaluates it.

    Returns "" if no run has a metric that judges it.
    """
    found = {}
    for run_dir in run_dirs:
        result = RunDirectory(run_dir).read_result()
        if result is not None and (score := quality(result[1])) is not None:
            found[run_dir] = score, judging(result[1])
    if not found:
        return ""
    best = max(found, key=lambda run_dir: found[run_dir][0])
    figures = ", ".join(f"{metric.name} {metric.text()}" for metric in found[best][1])
    return f"best         {best} ({figures})\nnext         {evaluate_command(best)}\n"


def benchmark_table(metrics: Sequence[Metric]) -> str:
    """Returns a table with a column per benchmark and a row per metric, from metrics under eval/<benchmark>."""
    by_benchmark: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_benchmark.setdefault(metric.benchmark, []).append(metric)
    return metric_table(by_benchmark)


def against_start(run_dir: Path, metrics: Sequence[Metric], *, best_metric: str | None) -> str | None:
    """Returns a line that says whether the end of a run is better than its start; None without metrics of step 0.

    Args:
        run_dir: the run, whose metrics.jsonl has step 0.
        metrics: those of the end.
        best_metric: see `quality`.
    """
    run = RunDirectory(run_dir)
    lines = read_metrics(run.metrics) if run.metrics.exists() else []
    first = next((line for line in lines if line["step"] == 0 and "metric_details" in line), None)
    if first is None:
        return None
    values = {name: first[name] for name in first["metric_details"] if first.get(name) is not None}
    names = {metric.name for metric in metrics} & values.keys()  # metrics of both
    at_start = [metric for metric in metrics_from(values, first["metric_details"]) if metric.name in names]
    at_end = {metric.name: metric for metric in metrics if metric.name in names}
    best = best_metric if best_metric in names else None
    before, after = quality(at_start, best_metric=best), quality([at_end[m.name] for m in at_start], best_metric=best)
    if before is None or after is None:
        return None
    judged = judging(at_start, best_metric=best)
    figures = ", ".join(f"{metric.name} {metric.text()} -> {at_end[metric.name].text()}" for metric in judged)
    if after >= before:
        where = "better than" if after > before else "exactly as good as"
        return f"The model is {where} where it started (step 0 -> the end): {figures}."
    return (
        f"The model is below where it started (step 0 -> the end): {figures}. Try a smaller optimizer.lr, a frozen "
        "backbone (freeze.epochs.backbone=null), more steps, or more images of each identity; otherwise keep the "
        "model that you started from."
    )


MAX_TABLE_WIDTH = 110  # characters; benchmarks that do not fit go into another table below


def metric_table(columns: Mapping[str, Sequence[Metric]]) -> str:
    """Returns a table with a row per metric; empty if there are no metrics.

    Args:
        columns: the metrics of each column, by its title. Metrics with the same short name share a row.
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
    """Returns columns of text, left-aligned, under a header with a rule."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    header = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    return "\n".join([header, "-" * sum(widths, 2 * (len(widths) - 1)), *lines])
