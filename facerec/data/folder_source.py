"""Sets of labelled face crops as one folder per identity."""

import hashlib
import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.errors import DataError
from facerec.core.string_table import StringTable, as_int64
from facerec.data.crop_files import IMAGE_SUFFIXES, SIZE_PX, check_size, read_bytes, read_image
from facerec.data.decode import decode_rgb


class FolderSource:
    """One folder per identity; labels follow the sorted names of the folders, samples the sorted names of the images.

    Files beside the identity folders, and names that begin with a dot, are passed over.

    Args:
        root: the folder. It is listed on first use, once. A pickled source is the path alone.

    Raises:
        DataError: on first use, when there is no identity folder, or one without an image.
    """

    def __init__(self, *, root: str) -> None:
        self.root = Path(root).expanduser()
        self._listing: _Listing | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_listing": None}

    def __len__(self) -> int:
        return len(self._listed().files)

    @property
    def num_classes(self) -> int:
        """Number of identity folders."""
        return len(self._listed().identities)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of every crop."""
        return SIZE_PX

    @property
    def identities(self) -> list[str]:
        """The names of the folders, in the order of the labels."""
        return self._listed().identities

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._listed().labels

    def image(self, index: int) -> np.ndarray:
        """uint8 (112, 112, 3), RGB. Raises DataError, naming the file, for what is no image or not aligned."""
        where = self.name(index)
        return check_size(read_image(where), where=where)

    def encoded(self, index: int) -> bytes:
        """The file as it is, once it is known to hold a crop. Raises as `image`."""
        where = self.name(index)
        content = read_bytes(where)
        check_size(decode_rgb(content, where=where), where=where)
        return content

    def name(self, index: int) -> str:
        """The sample's path."""
        return str(self.root / self.relative_path(index))

    def relative_path(self, index: int) -> str:
        """The sample's path below the root."""
        listed, index = self._listed(), range(len(self))[index]
        return os.path.join(listed.identities[listed.labels[index]], listed.files[index])

    def benchmarks(self) -> list[Path]:
        """The verification files beside the identity folders, by name."""
        return sorted(self.root.glob("*.bin"))

    def fingerprint(self) -> str:
        """SHA-256 over the names and sizes of all images, relative to the root; not over the pixels."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            relative = self.relative_path(index)
            digest.update(f"{relative}\0{os.path.getsize(self.root / relative)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _listed(self) -> "_Listing":
        if self._listing is None:
            identities, labels, files = _visible(self.root, folders=True), array("q"), StringTable()
            if not identities:
                raise DataError(
                    f"{self.root}: no folder in it. Expected one folder of aligned face crops per identity, or "
                    "train.rec, train.idx and property (InsightFace's layout)"
                )
            for label, identity in enumerate(identities):
                num_before = len(files)
                for name in _visible(self.root / identity, folders=False):
                    if name.lower().endswith(IMAGE_SUFFIXES):
                        files.append(name)
                        labels.append(label)
                if len(files) == num_before:
                    raise DataError(
                        f"{self.root / identity}: no image in it ({', '.join(IMAGE_SUFFIXES)}). Every folder in "
                        f"{self.root} is an identity: remove this one, or give it images"
                    )
            self._listing = _Listing(identities, as_int64(labels), files)
        return self._listing


@dataclass(frozen=True)
class _Listing:
    identities: list[str]
    labels: np.ndarray
    files: StringTable


def _visible(folder: Path, *, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() == folders and not entry.name.startswith(".")
            )
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
