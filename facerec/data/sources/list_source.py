"""A set of labelled face photos in a table: path, identity and, for photos that are not aligned, landmarks."""

from collections.abc import Callable
from pathlib import Path

from facerec.align.photo_table import read_photo_table
from facerec.core.crop_size import DEFAULT_SIZE_PX
from facerec.data.sources.file_source import Files, FileSource


class ListSource(FileSource):
    """The photos of a CSV or TSV; see `read_photo_table`.

    Labels follow the sorted names of the identities, samples the lines. Photos with landmarks are aligned to `size_px`
    while they are read; without landmarks, they must be aligned crops of that size.

    Args:
        root: the table. It is read on first use, once. A pickled source holds only the path and the size.
        size_px: height and width of the crops.

    Raises:
        DataError: on first use, if a column is missing or a line does not fit; names the line.
    """

    def _read(self) -> Files:
        return list_table(self.root, size_px=self.size_px)

    def _described(self, files: Files) -> bytes:
        names = "\0".join(files.identities).encode("utf-8", "surrogateescape")
        described = files.labels.tobytes() + names
        if files.landmarks is None:
            return described
        # crops of the default size keep the fingerprint of runs from before other sizes existed
        size = b"" if files.size_px == DEFAULT_SIZE_PX else repr(files.size_px).encode()
        return described + files.landmarks.tobytes() + size


def list_table(path: Path, *, size_px: tuple[int, int], on_fault: Callable[[str, str], None] | None = None) -> Files:
    """Returns the files of a table; see `read_photo_table`, and `Files` for `size_px`."""
    table = read_photo_table(path, on_fault=on_fault)
    return Files(
        folder=path.parent,
        relative_path=table.paths.__getitem__,
        identities=table.identities,
        labels=table.labels,
        landmarks=table.landmarks,
        size_px=size_px,
    )
