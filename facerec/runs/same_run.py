"""Finds a run by its configuration, wherever it lies in a folder."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from facerec.core.errors import DataError
from facerec.runs.comparison import differences, result_keys
from facerec.runs.run_directory import RunDirectory, runs_below


class StoredRuns:
    """The runs below some folders. Each folder is read once."""

    def __init__(self) -> None:
        self._runs: dict[Path, dict[str, list[RunDirectory]]] = {}

    def runs_in(self, folder: Path) -> dict[str, list[RunDirectory]]:
        """Returns the runs below a folder by what identifies their results; without those that cannot be read."""
        if folder not in self._runs:
            self._runs[folder] = {}
            for run in runs_below([folder]):
                with suppress(DataError):
                    self._runs[folder].setdefault(_identity(run.read_config()), []).append(run)
        return self._runs[folder]

    def find(self, folders: Sequence[Path], config: Mapping[str, Any]) -> Path | None:
        """Returns the directory of a run with the same configuration and the same `data.root`; None if there is none.

        Args:
            folders: where to look, in this order.
            config: a resolved configuration.
        """
        for folder in folders:
            for run in self.runs_in(folder).get(_identity(config), []):
                if not differences(run.read_config(), config):
                    return run.path
        return None


def _identity(config: Mapping[str, Any]) -> str:
    """Returns the keys that change the result as text, without those that are null, which older runs may not have."""
    keys = {key: value for key, value in result_keys(config).items() if value is not None}
    return json.dumps({**keys, "data.root": (config.get("data") or {}).get("root")}, sort_keys=True, default=str)
