"""Sets of labelled face photos that a table lists: path, identity and, for photos that are not aligned, landmarks."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.crops import align_crop
from facerec.align.photo_table import PhotoTable, read_photo_table
from facerec.core.errors import DataError
from facerec.data.crop_files import SIZE_PX, check_size, read_bytes, read_image, size_of
from facerec.data.decode import decode_rgb, encode_jpeg


class ListSource:
    """The photos of a CSV or TSV; see `read_photo_table`.

    Labels follow the sorted names of the identities, samples the lines. With landmarks photos are aligned as they are
    read; without, they must be aligned crops.

    Args:
        root: the table. It is read on first use, once. A pickled source is the path alone.

    Raises:
        DataError: on first use, where a column is missing or a line does not fit; names the line.
    """

    def __init__(self, *, root: str) -> None:
        self.root = Path(root).expanduser()
        self._table: PhotoTable | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def __len__(self) -> int:
        return len(self._read().paths)

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self._read().identities)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of every crop."""
        return SIZE_PX

    @property
    def identities(self) -> list[str]:
        """Their names, in the order of the labels."""
        return self._read().identities

    @property
    def has_names(self) -> bool:
        """That `identities` are names."""
        return True

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._read().labels

    def image(self, index: int) -> np.ndarray:
        """uint8 (112, 112, 3), RGB. Raises DataError, naming the file, for what is no image or not aligned."""
        return self._crop(index, read_image(self.name(index)))

    def encoded(self, index: int) -> bytes:
        """The file as it is, once it is known to hold a crop; of a photo that is aligned here, a JPEG of the crop.

        Raises as `image`.
        """
        where = self.name(index)
        content = read_bytes(where)
        crop = self._crop(index, decode_rgb(content, where=where))
        return content if self._read().landmarks is None else encode_jpeg(crop)

    def name(self, index: int) -> str:
        """The sample's path."""
        return str(self.root.parent / self.relative_path(index))

    def relative_path(self, index: int) -> str:
        """The sample's path as the table has it."""
        return self._read().paths[index]

    def benchmarks(self) -> list[Path]:
        """The verification files beside the table, by name."""
        return sorted(self.root.parent.glob("*.bin"))

    def fingerprint(self) -> str:
        """SHA-256 over paths as they are listed, sizes of the files, identities and landmarks; not over the pixels."""
        table = self._read()
        digest = hashlib.sha256(table.labels.tobytes())
        digest.update("\0".join(table.identities).encode("utf-8", "surrogateescape"))
        if table.landmarks is not None:
            digest.update(table.landmarks.tobytes())
        for path in table.paths:
            size = size_of(str(self.root.parent / path))
            digest.update(f"{path}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _crop(self, index: int, photo: np.ndarray) -> np.ndarray:
        where, landmarks = self.name(index), self._read().landmarks
        if landmarks is None:
            return check_size(photo, where=where)
        try:
            return align_crop(photo, landmarks[index])
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    def _read(self) -> PhotoTable:
        if self._table is None:
            self._table = read_photo_table(self.root)
        return self._table
