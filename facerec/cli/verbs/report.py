"""The verb `report`: gathers the runs below a directory into table.md and table.csv."""

from pathlib import Path

from omegaconf import DictConfig

from facerec.cli.config.arguments import check_keys
from facerec.cli.summary import best_and_next
from facerec.core.errors import ConfigError, DataError
from facerec.runs.table import make_table, markdown, read_runs, write_table

KEYS = {"run_dir", "out"}


def run(config: DictConfig, overrides: list[str]) -> int:
    """Writes the table, prints it, and prints its path.

    Raises:
        DataError: `run_dir` does not exist, or holds no runs; a file of a run cannot be read.
    """
    check_keys(config, KEYS)
    for key in KEYS:
        if not isinstance(config[key], str | None):
            raise ConfigError(f"{key}={config[key]!r}; expected a path")
    run_dir = Path(config.run_dir)
    if not run_dir.is_dir():
        raise DataError(f"run_dir={run_dir}: no such directory; give runs/<group>, where facerec train writes")
    runs = read_runs([run_dir])
    if not runs:
        raise DataError(f"run_dir={run_dir}: no runs below it; expected runs that facerec train has written")
    table, title = make_table(runs), run_dir.resolve().name
    paths = write_table(table, Path(config.out or run_dir), title=title)
    print(markdown(table, title=title))
    print(f"table        {paths[0]}, {paths[1]}")
    print(best_and_next(run.directory for run in runs if run.finished), end="")
    return 0
