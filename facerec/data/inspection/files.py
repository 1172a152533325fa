"""Folders and tables of images under inspection: what cannot be listed is a fault, and the rest is looked at."""

import os
from pathlib import Path

import numpy as np

from facerec.align.crops import align_crop
from facerec.align.photo_table import read_photo_table
from facerec.core.errors import DataError
from facerec.data.crop_files import SIZE_PX, read_bytes
from facerec.data.decode import decode_rgb
from facerec.data.folder_source import list_folders
from facerec.data.inspection.findings import Findings
from facerec.data.inspection.survey import Seen, see_image, without


class FileItems:
    """Images that are files of their own; see `facerec.data.inspection.survey.Items`.

    Args:
        kind: what sort of set it is.
        labels: int64 (N,).
        identities: their names.
        landmarks: float64 (N, 5, 2) of photos that are aligned as they are read, or None.
    """

    def __init__(
        self, *, kind: str, labels: np.ndarray, identities: list[str], landmarks: np.ndarray | None = None
    ) -> None:
        self.kind = kind
        self.size_px = SIZE_PX
        self.labels = labels
        self.identities = identities
        self.landmarks = landmarks

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Of an image."""
        raise NotImplementedError

    def see(self, index: int) -> Seen:
        """See `Items`."""
        where = self.path(index)
        try:
            content = read_bytes(where)
        except DataError as error:
            return Seen(None, (("unreadable", without(where, error)),))
        # one photo can be listed once for each face in it
        also = b"" if self.landmarks is None else self.landmarks[index].tobytes()
        return see_image(
            content, lambda content: self._decoded(index, content), where=where, size_px=self.size_px, also=also
        )

    def place(self, index: int) -> tuple[str, str]:
        """See `Items`."""
        return self.path(index), ""

    def crop(self, index: int) -> np.ndarray:
        """See `Items`."""
        return self._decoded(index, read_bytes(self.path(index)))

    def identity(self, label: int) -> str:
        """See `Items`."""
        return self.identities[label]

    def check_labels(self, faults: Findings) -> np.ndarray:
        """See `Items`. They cannot be wrong."""
        return self.labels

    def _decoded(self, index: int, content: bytes) -> np.ndarray:
        image = decode_rgb(content, where=self.path(index))
        return image if self.landmarks is None else align_crop(image, self.landmarks[index])


class FolderItems(FileItems):
    """One folder per identity. Raises DataError where there is none."""

    def __init__(self, *, root: Path, faults: Findings, notes: Findings) -> None:
        self._listing = list_folders(
            root,
            on_fault=lambda folder, what: faults.add("empty identity", folder, "", what),
            on_passed_over=lambda path, why: notes.add("passed over", path, "", why),
        )
        self._root = root
        super().__init__(
            kind="folders, one for each identity", labels=self._listing.labels, identities=self._listing.identities
        )

    def path(self, index: int) -> str:
        """Of an image."""
        return os.path.join(self._root, self.identities[self.labels[index]], self._listing.files[index])


class TableItems(FileItems):
    """The lines of a CSV or TSV. Raises DataError where it cannot be read, or has no line that fits."""

    def __init__(self, *, path: Path, faults: Findings) -> None:
        table = read_photo_table(path, on_fault=lambda line, what: faults.add("line", path, line, what))
        self._folder, self._paths = path.parent, table.paths
        super().__init__(
            kind="a table of " + ("crops" if table.landmarks is None else "photos, aligned by their landmarks"),
            labels=table.labels,
            identities=table.identities,
            landmarks=table.landmarks,
        )

    def path(self, index: int) -> str:
        """Of an image."""
        return os.path.join(self._folder, self._paths[index])
