"""Finds a run by its configuration, wherever it lies in a folder."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from facerec.core.errors import DataError
from facerec.runs.comparison import differences, result_keys
from facerec.runs.run_directory import runs_below


class StoredRuns:
    """The runs below some folders. Each folder is read once."""

    def __init__(self) -> None:
        self._runs: dict[Path, dict[str, list[tuple[Path, dict[str, Any]]]]] = {}

    def runs_in(self, folder: Path) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
        """Returns the runs below a folder, each with its configuration, by what identifies their results.

        Runs that cannot be read are left out.
        """
        if folder not in self._runs:
            self._runs[folder] = {}
            for run in runs_below([folder]):
                with suppress(DataError):
                    config = run.read_config()
                    self._runs[folder].setdefault(_identity(config), []).append((run.path, config))
        return self._runs[folder]

    def find(self, folders: Sequence[Path], config: Mapping[str, Any]) -> Path | None:
        """Returns the directory of a run with the same configuration and the same `data.root`; None if there is none.

        Args:
            folders: where to look, in this order.
            config: a resolved configuration.
        """
        for folder in folders:
            for path, stored in self.runs_in(folder).get(_identity(config), []):
                if not differences(stored, config):
                    return path
        return None


def _identity(config: Mapping[str, Any]) -> str:
    """Returns the keys that change the result as text, without those that are null, which older runs may not have."""
    keys = {key: value for key, value in result_keys(config).items() if value is not None}
    return json.dumps({**keys, "data.root": (config.get("data") or {}).get("root")}, sort_keys=True, default=str)
