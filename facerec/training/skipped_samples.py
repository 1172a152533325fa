"""Reports, counts and lists the samples that a training could not read and has skipped."""

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
    """Gathers the samples that the loaders of all processes have skipped.

    Args:
        loader: the loader of this process.
        run_log: its run directory has the list, in which entries of earlier parts of the run stay.
        processes: the processes of the training.
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
        """Does the same as `log`: a run that is resumed from the checkpoint may not read these samples again."""
        self.log(step)


def _read(path: Path) -> dict[int, tuple[str, ...]]:
    """Returns the rows of the list. A file that is not such a list is renamed; it never ends a training."""
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
