"""Sets of labelled face photos that a table lists: path, identity and, for photos that are not aligned, landmarks."""

from collections.abc import Callable
from pathlib import Path

from facerec.align.photo_table import read_photo_table
from facerec.data.file_source import Files, FileSource


class ListSource(FileSource):
    """The photos of a CSV or TSV; see `read_photo_table`.

    Labels follow the sorted names of the identities, samples the lines. With landmarks photos are aligned as they are
    read; without, they must be aligned crops.

    Args:
        root: the table. It is read on first use, once. A pickled source is the path alone.

    Raises:
        DataError: on first use, where a column is missing or a line does not fit; names the line.
    """

    def _read(self) -> Files:
        return list_table(self.root)

    def _described(self, files: Files) -> bytes:
        names = "\0".join(files.identities).encode("utf-8", "surrogateescape")
        return files.labels.tobytes() + names + (b"" if files.landmarks is None else files.landmarks.tobytes())


def list_table(path: Path, *, on_fault: Callable[[str, str], None] | None = None) -> Files:
    """The files of a table; see `read_photo_table`."""
    table = read_photo_table(path, on_fault=on_fault)
    return Files(
        folder=path.parent,
        relative_path=table.paths.__getitem__,
        identities=table.identities,
        labels=table.labels,
        landmarks=table.landmarks,
    )
