"""The trials of a grid: all combinations of the values, a run directory for each, and the table of their results."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facerec.core.errors import ConfigError, DataError
from facerec.runs.comparison import differences
from facerec.runs.naming import RUNS
from facerec.runs.run_directory import RunDirectory, runs_below
from facerec.runs.table import Run, make_table, markdown, read_runs, write_table
from facerec.sweeping.grid import Outcome, Trial


def expand(choices: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns the overrides of each trial: all combinations of one choice per override; the last varies fastest."""
    return [list(chosen) for chosen in itertools.product(*choices)]


def refuse_shared_directories(trials: Sequence[Trial]) -> None:
    """Refuses trials that would write into one run directory.

    Raises:
        ConfigError: names the directory, and the overrides that differ and do not change the result.
    """
    seen: dict[Path, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.directory, trial)
        if other is not trial:
            apart = ", ".join(sorted(set(trial.overrides) ^ set(other.overrides)))
            raise ConfigError(
                f"two trials of the grid would share {trial.directory}: "
                + (f"{apart} do not change the result; remove that from the grid" if apart else "one is given twice")
            )


def is_finished(directory: Path, config: Mapping[str, Any]) -> bool:
    """Returns True if the run in `directory` has its result and was made with this configuration.

    If it was made with another configuration, its trial is started, which prints the differences and refuses to resume.

    Args:
        directory: the run directory.
        config: the resolved configuration of the trial, as plain values.
    """
    try:
        run = RunDirectory(directory)
        return run.read_result() is not None and not differences(run.read_config(), config)
    except DataError:
        return False  # its trial reports the fault of the file


def grid_directory(trials: Sequence[Trial]) -> Path:
    """Returns the folder of the table: that of the trials, or the common part of their folders."""
    return Path(os.path.commonpath([trial.folder for trial in trials]))


def write_grid_table(outcomes: Sequence[Outcome]) -> tuple[str, tuple[Path, Path]]:
    """Writes the table of the trials, and of the runs of earlier grids in their folders.

    Args:
        outcomes: outcomes of the grid; trials without a result are listed below the table.

    Returns:
        The table as Markdown, without that list, and the paths of table.md and table.csv.
    """
    trials = [outcome.trial for outcome in outcomes]
    directory = grid_directory(trials)
    failures = {
        outcome.trial.directory: f"{outcome.status} {outcome.message}".strip()
        for outcome in outcomes
        if outcome.status not in ("finished", "skipped")
    }
    table = make_table(_runs_of(trials), failures=failures)
    title = str(directory.relative_to(RUNS)) if directory.is_relative_to(RUNS) else directory.name
    return markdown(replace(table, left_out=[]), title=title), write_table(table, directory, title=title)


def _runs_of(trials: Sequence[Trial]) -> list[Run]:
    """Returns the runs of the trials, and the others that lie in the same folders, not deeper."""
    folders, own = {trial.folder for trial in trials}, {trial.directory for trial in trials}
    beside = {run.path for run in runs_below(folders) if run.path.parent in folders}
    return read_runs(sorted(beside | own))
