"""The table of a grid: a row per setting, each benchmark's leading metric as mean and standard deviation over seeds."""

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facerec.core.atomic_file import atomic_file
from facerec.core.metric import SHARE, Metric, leading
from facerec.runs.comparison import result_keys, setting_of, without_null_length
from facerec.runs.run_directory import RunDirectory, runs_below


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run directory.

    Attributes:
        directory: its path.
        setting: the overrides that change the result, without the seed.
        seed: as text.
        config: the resolved configuration.
        metrics: the leading metric of each benchmark.
        finished: True if it has a result.
    """

    directory: Path
    setting: dict[str, str]
    seed: str
    config: dict[str, Any]
    metrics: dict[str, Metric]
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of leading metrics; shares are in per cent.

    Attributes:
        keys: the overrides in which the settings differ.
        common: the overrides that all settings share.
        benchmarks: the leading metric of each benchmark, by name, sorted; its value is that of one run.
        rows: one per setting.
        left_out: one line for each run without a row, with the reason.
    """

    keys: list[str]
    common: dict[str, str]
    benchmarks: dict[str, Metric]
    rows: list["Row"]
    left_out: list[str]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting.

    Attributes:
        values: the values of the table's keys.
        metrics: the leading metric of each benchmark, one per seed.
    """

    values: list[str]
    num_seeds: int
    metrics: dict[str, list[Metric]]

    def shown(self, benchmark: str) -> list[float]:
        """Returns a benchmark's values in the table's units, one per seed."""
        return [
            100 * metric.value if metric.unit == SHARE else metric.value for metric in self.metrics.get(benchmark, [])
        ]


def read_runs(directories: Iterable[Path]) -> list[Run]:
    """Returns all run directories at and below the given ones, each once, in the order of their paths.

    Raises:
        DataError: a file of a run directory cannot be read.
    """
    return [_read_run(run) for run in runs_below(list(directories))]


def make_table(runs: Sequence[Run], *, failures: Mapping[Path, str] | None = None) -> Table:
    """Groups the finished runs by what they have trained; runs that differ in the seed alone share a row.

    The resolved configurations decide, not the overrides: a default that one run was given and another was not makes
    no second row. The columns are the overrides in which the rows differ; if two rows have equal overrides, the keys
    in which their configurations differ are columns too.

    Args:
        runs: finished or not.
        failures: run directory -> why it has no result, for runs with a known reason.
    """
    failures = dict(failures or {})
    groups: dict[str, dict[str, Run]] = {}
    left_out = []
    for run in runs:
        seeds = groups.setdefault(json.dumps(_trained(run), sort_keys=True, default=str), {})
        if not run.finished:
            left_out.append(f"{run.directory}: {failures.pop(run.directory, 'unfinished')}")
        elif run.seed in seeds:
            left_out.append(f"{run.directory}: the same setting and seed as {seeds[run.seed].directory}")
        else:
            seeds[run.seed] = run
            failures.pop(run.directory, None)
    left_out += [f"{directory}: {reason}" for directory, reason in failures.items()]
    settings = [list(seeds.values()) for seeds in groups.values() if seeds]
    typed = [{key: value for run in same for key, value in run.setting.items()} for same in settings]
    shown = {
        key: [given.get(key, _configured(same[0].config, key)) for given, same in zip(typed, settings, strict=True)]
        for key in sorted({key for given in typed for key in given})
    }
    common = {key: values[0] for key, values in shown.items() if len(set(values)) == 1}
    shown = {key: values for key, values in shown.items() if key not in common}
    shown |= _unsaid(settings, shown)
    rows = [_row([values[number] for values in shown.values()], same) for number, same in enumerate(settings)]
    rows.sort(key=lambda row: [_sort_key(value) for value in row.values])
    found = {name: metrics[0] for row in rows for name, metrics in row.metrics.items()}
    benchmarks = dict(sorted(found.items()))
    return Table(keys=list(shown), common=common, benchmarks=benchmarks, rows=rows, left_out=sorted(left_out))


def _trained(run: Run) -> dict[str, Any]:
    """Returns the configuration that decides about the result, without the seed and what is not set."""
    keys = result_keys(run.config)
    seed = keys.pop("seed", None)
    return {key: value for key, value in keys.items() if value is not None and (key, value) != ("head.seed", seed)}


def _unsaid(settings: Sequence[Sequence[Run]], shown: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Returns the keys of the configurations in which rows with equal overrides differ, with their values."""
    configs = [_trained(same[0]) for same in settings]
    by_values: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for number, config in enumerate(configs):
        by_values.setdefault(tuple(values[number] for values in shown.values()), []).append(config)
    keys = {
        key
        for alike in by_values.values()
        for config in alike[1:]
        for key in config.keys() | alike[0].keys()
        if config.get(key) != alike[0].get(key)
    }
    return {key: [str(config.get(key, "null")) for config in configs] for key in sorted(keys)}


def markdown(table: Table, *, title: str) -> str:
    """Returns the table as Markdown."""
    lines = [f"# {title}", "", "Mean ± sample standard deviation (ddof = 1) over seeds."]
    if table.common:
        lines.append(
            "Overrides of all rows: " + ", ".join(f"{key}={value}" for key, value in table.common.items()) + "."
        )
    lines.append("")
    lines += _markdown_rows(table) if table.rows else ["No run has finished."]
    if table.left_out:
        lines += ["", f"Not in the table ({len(table.left_out)}):", "", *(f"- {reason}" for reason in table.left_out)]
    return "\n".join(lines) + "\n"


def _markdown_rows(table: Table) -> list[str]:
    heads = [*table.keys, "seeds", *(_head(name, metric) for name, metric in table.benchmarks.items())]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in table.rows:
        cells = [_cell(row.shown(name), row.num_seeds) for name in table.benchmarks]
        lines.append(_line([*row.values, str(row.num_seeds), *cells]))
    return lines


def as_csv(table: Table) -> str:
    """Returns the table as CSV: mean, standard deviation (empty for one seed) and number of seeds per benchmark."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = []
    for name, metric in table.benchmarks.items():
        column, unit = f"{name}_{metric.short_name}", "_percent" if metric.unit == SHARE else ""
        heads += [f"{column}_mean{unit}", f"{column}_std{unit}", f"{name}_num_seeds"]
    writer.writerow([*table.keys, "num_seeds", *heads])
    for row in table.rows:
        cells: list[str] = []
        for name in table.benchmarks:
            values = row.shown(name)
            mean = f"{statistics.fmean(values):.4f}" if values else ""
            std = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells += [mean, std, str(len(values))]
        writer.writerow([*row.values, row.num_seeds, *cells])
    return text.getvalue()


def write_table(table: Table, directory: Path, *, title: str) -> tuple[Path, Path]:
    """Writes `table.md` and `table.csv`, each complete or absent; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = directory / "table.md", directory / "table.csv"
    for path, text in zip(paths, (markdown(table, title=title), as_csv(table)), strict=True):
        with atomic_file(path) as file:
            file.write(text.encode())
    return paths


def _read_run(run: RunDirectory) -> Run:
    config, setting = run.read_config(), without_null_length(setting_of(run.read_overrides()))
    seed = setting.pop("seed", str(config.get("seed")))
    return Run(
        directory=run.path,
        setting=setting,
        seed=seed,
        config=config,
        metrics={metric.benchmark: metric for metric in leading(run.latest_metrics())},
        finished=run.read_result() is not None,
    )


def _row(values: list[str], runs: Sequence[Run]) -> Row:
    metrics: dict[str, list[Metric]] = {}
    for run in runs:
        for name, metric in run.metrics.items():
            metrics.setdefault(name, []).append(metric)
    return Row(values=values, num_seeds=len(runs), metrics=metrics)


def _configured(config: Any, key: str) -> str:
    """Returns the value of a key without an override; for a group, which the configuration does not name, "default"."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return "default" if config is None or isinstance(config, dict) else str(config)


def _sort_key(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def _head(benchmark: str, metric: Metric) -> str:
    return f"{benchmark} {metric.short_name.replace('_', ' ')}{' (%)' if metric.unit == SHARE else ''}"


def _cell(values: Sequence[float], num_seeds: int) -> str:
    if not values:
        return "-"
    text = f"{statistics.fmean(values):.2f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.2f}"
    return text if len(values) == num_seeds else f"{text} (of {len(values)})"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
