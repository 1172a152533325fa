"""Files under inspection: what of a folder or a table cannot be listed is a fault, and the rest is looked at."""

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
    """Images that are files of their own; see `facerec.inspection.survey.Items`.

    Args:
        kind: what sort of set it is.
        files: the set.
    """

    def __init__(self, *, kind: str, files: Files) -> None:
        self.kind = kind
        self.size_px = files.size_px
        self._files = files
        self._misplaced: dict[int, tuple[int, int]] = {}  # bad landmarks -> height and width of their photo

    def __len__(self) -> int:
        return len(self._files.labels)

    def see(self, index: int) -> Seen:
        """See `Items`."""
        where = self._files.path(index)
        try:
            content = read_bytes(where)
        except DataError as error:
            return Seen(None, (("unreadable", without(where, error)),))
        # one photo can be listed once for each face in it
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
        """See `Items`. They cannot be wrong."""
        return self._files.labels

    def check_landmarks(self, path: Path, faults: Findings) -> None:
        """After all items were seen: adds what the bad landmarks of the table at `path` have in common."""
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
    """One folder per identity. Raises DataError where there is none."""
    files = list_folders(
        root,
        size_px=size_px,
        on_fault=lambda folder, what: faults.add("empty identity", folder, "", what),
        on_passed_over=lambda path, why: notes.add("passed over", path, "", why),
    )
    return FileItems(kind="folders, one for each identity", files=files)


def table_items(path: Path, faults: Findings, *, size_px: tuple[int, int]) -> FileItems:
    """The lines of a CSV or TSV. Raises DataError where it cannot be read, or has no line that fits."""
    files = list_table(path, size_px=size_px, on_fault=lambda line, what: faults.add("line", path, line, what))
    kind = "crops" if files.landmarks is None else "photos, aligned by their landmarks"
    return FileItems(kind=f"a table of {kind}", files=files)
