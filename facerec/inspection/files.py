"""Inspects folders and tables: files that cannot be listed are faults, and the others are read."""

from pathlib import Path

import numpy as np

from facerec.align.landmark_causes import FacesOfAList, common_cause
from facerec.align.landmark_checks import BadLandmarksError
from facerec.align.photo_reader import read_bytes
from facerec.core.errors import DataError
from facerec.data.sources.file_source import Files
from facerec.data.sources.folder_source import list_folders
from facerec.data.sources.list_source import list_table
from facerec.inspection.findings import Findings
from facerec.inspection.survey import Seen, see_image, without


class FileItems:
    """Images in separate files; see `facerec.inspection.survey.Items`.

    Args:
        kind: kind of the set.
        files: the set.
    """

    def __init__(self, *, kind: str, files: Files) -> None:
        self.kind = kind
        self.size_px = files.size_px
        self._files = files
        self._misplaced: dict[int, tuple[int, int]] = {}  # number of an item with bad landmarks -> its photo's size

    def __len__(self) -> int:
        return len(self._files.labels)

    def see(self, index: int) -> Seen:
        """See `Items`."""
        where = self._files.path(index)
        try:
            content = read_bytes(where)
        except DataError as error:
            return Seen(None, (("unreadable", without(where, error)),))
        # a photo may be listed once for each of its faces
        also = b"" if self._files.landmarks is None else self._files.landmarks[index].tobytes()
        return see_image(
            content, lambda content: self._decoded(index, content), where=where, size_px=self.size_px, also=also
        )

    def place(self, index: int) -> tuple[str, str]:
        """See `Items`."""
        return self._files.path(index), ""

    def crop(self, index: int) -> np.ndarray:
        """See `Items`."""
        return self._files.decoded(index, read_bytes(self._files.path(index)))

    def identity(self, label: int) -> str:
        """See `Items`."""
        return self._files.identities[label]

    def check_labels(self, faults: Findings) -> np.ndarray:
        """Returns the labels, see `Items`. They cannot be wrong."""
        return self._files.labels

    def check_landmarks(self, path: Path, faults: Findings) -> None:
        """Adds, after all items were read, what the bad landmarks of the table at `path` have in common."""
        rejected = FacesOfAList()
        for index in sorted(self._misplaced):
            assert self._files.landmarks is not None
            rejected.add(self._files.landmarks[index].ravel().tolist(), self._misplaced[index])
        if cause := common_cause(rejected):
            faults.add("landmarks of the table", path, "", cause)

    def _decoded(self, index: int, content: bytes) -> np.ndarray:
        try:
            return self._files.decoded(index, content)
        except BadLandmarksError as error:
            self._misplaced[index] = error.photo_size_px
            raise


def folder_items(root: Path, faults: Findings, notes: Findings, *, size_px: tuple[int, int]) -> FileItems:
    """Opens one folder per identity. Raises DataError if there is none."""
    files = list_folders(
        root,
        size_px=size_px,
        on_fault=lambda folder, what: faults.add("empty identity", folder, "", what),
        on_passed_over=lambda path, why: notes.add("passed over", path, "", why),
    )
    return FileItems(kind="folders, one per identity", files=files)


def table_items(path: Path, faults: Findings, *, size_px: tuple[int, int]) -> FileItems:
    """Opens the lines of a CSV or TSV. Raises DataError if it cannot be read, or no line fits."""
    files = list_table(path, size_px=size_px, on_fault=lambda line, what: faults.add("line", path, line, what))
    kind = "crops" if files.landmarks is None else "photos, aligned by their landmarks"
    return FileItems(kind=f"a table of {kind}", files=files)
