"""The trials of a grid: every combination of the values, a run directory for each, and the table of their results."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facerec.core.errors import ConfigError, DataError
from facerec.runs.comparison import differences
from facerec.runs.naming import RUNS
from facerec.runs.run_directory import RunDirectory
from facerec.runs.table import make_table, markdown, read_runs, write_table
from facerec.sweeping.grid import Outcome, Trial


def expand(choices: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns the overrides of each trial: every combination of one choice for each override; the last varies first."""
    return [list(chosen) for chosen in itertools.product(*choices)]


def below(root: Path, directories: Sequence[Path]) -> list[Path]:
    """Returns the places of run directories in a folder of the grid: their paths, without what all have in common."""
    common = os.path.commonpath([directory.parent for directory in directories])
    return [root / directory.relative_to(common) for directory in directories]


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
                + (f"{apart} do not change the result; leave that out of the grid" if apart else "one is given twice")
            )


def is_finished(directory: Path, config: Mapping[str, Any]) -> bool:
    """Returns True if the run in `directory` has its result and was made with this configuration.

    Where it was made with another, its trial is started, and refuses to resume with the differences.

    Args:
        directory: of the run.
        config: the resolved configuration of the trial, as plain values.
    """
    try:
        run = RunDirectory(directory)
        return run.read_result() is not None and not differences(run.read_config(), config)
    except DataError:
        return False  # its trial says what is wrong with the file


def grid_directory(trials: Sequence[Trial]) -> Path:
    """Returns where the table goes: `runs/<experiment>`, or what the experiments of the grid have in common."""
    return Path(os.path.commonpath([trial.directory.parent for trial in trials]))


def write_grid_table(outcomes: Sequence[Outcome]) -> tuple[str, tuple[Path, Path]]:
    """Writes the table of all runs beside the trials, those of earlier grids too.

    Args:
        outcomes: of the grid; those without a result are listed below the table.

    Returns:
        The table as Markdown, and the paths of table.md and table.csv.
    """
    trials = [outcome.trial for outcome in outcomes]
    directory = grid_directory(trials)
    failures = {
        outcome.trial.directory: f"{outcome.status} {outcome.message}".strip()
        for outcome in outcomes
        if outcome.status not in ("finished", "skipped")
    }
    table = make_table(read_runs({trial.directory.parent for trial in trials}), failures=failures)
    title = str(directory.relative_to(RUNS)) if directory.is_relative_to(RUNS) else directory.name
    return markdown(table, title=title), write_table(table, directory, title=title)
