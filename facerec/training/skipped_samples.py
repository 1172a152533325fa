"""The samples that a training could not read and has passed over: told, counted, and listed in the run directory."""

from pathlib import Path

from facerec.core.atomic_file import atomic_file
from facerec.core.csv_lines import csv_lines, csv_row
from facerec.core.errors import DataError
from facerec.core.log import LOGGER
from facerec.data.loader import BatchLoader
from facerec.processes.group import Processes
from facerec.runs.run_log import RunLog
from facerec.training.observers import Observer

MOST_TOLD = 10
COLUMNS = ("sample", "first_step", "reason", "in_its_place")


class SkippedSamples(Observer):
    """Gathers what the loaders of all processes have skipped.

    Args:
        loader: this process's.
        run_log: of the run directory, which holds the list; what earlier parts of the run have listed stays.
        processes: those that train together.
    """

    def __init__(self, *, loader: BatchLoader, run_log: RunLog, processes: Processes) -> None:
        self.loader = loader
        self.run_log = run_log
        self.processes = processes
        self._rows: dict[int, tuple[str, ...]] | None = None

    def log(self, step: int) -> None:
        """Writes list and count, and warns of the samples that are new."""
        if self.loader.on_corrupt != "skip":
            return
        own, self.loader.replaced = self.loader.replaced, []
        replaced = [one for part in self.processes.gather_objects(own) for one in part]
        if not self.processes.is_first or not replaced:
            return
        path = self.run_log.files.skipped
        rows = _read(path) if self._rows is None else self._rows
        num_known = len(rows)
        for one in sorted(replaced, key=lambda one: (one.step, one.index)):
            if one.index not in rows:
                rows[one.index] = (
                    str(one.index),
                    str(one.step),
                    one.reason,
                    "" if one.by is None else self.loader.source.name(one.by),
                )
                if len(rows) <= MOST_TOLD:
                    LOGGER.warning("step %d: skipped %s", one.step, one.reason)
        self._rows = rows
        if len(rows) > num_known:
            self.run_log.scalars(step, {"data/skipped_samples": len(rows)})
            LOGGER.warning("%d samples of %d cannot be read; see %s", len(rows), len(self.loader.source), path)
            _write(path, rows)

    def before_save(self, step: int) -> None:
        """The same as `log`: a run that goes on from the checkpoint may not meet these samples again."""
        self.log(step)


def _read(path: Path) -> dict[int, tuple[str, ...]]:
    """What is listed; a file that somebody has made another one of is put aside, and never ends a training."""
    if not path.exists():
        return {}
    try:
        return {int(cells["sample"]): tuple(cells.values()) for _, cells in csv_lines(path, columns=COLUMNS)}
    except (DataError, OSError, ValueError) as error:
        aside = path.with_name(f"{path.stem}.unreadable{path.suffix}")
        LOGGER.warning(
            "the list of skipped samples cannot be read (%s); it is now %s, and a new one begins", error, aside
        )
        path.replace(aside)
        return {}


def _write(path: Path, rows: dict[int, tuple[str, ...]]) -> None:
    with atomic_file(path) as file:
        file.write(csv_row(*COLUMNS))
        file.writelines(csv_row(*rows[index]) for index in sorted(rows))
