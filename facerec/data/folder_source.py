"""Sets of labelled face crops as one folder per identity."""

import hashlib
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.alignment import SUMMARY_FILE, is_unfinished
from facerec.core.errors import DataError
from facerec.core.string_table import StringTable, as_int64
from facerec.data.crop_files import IMAGE_SUFFIXES, SIZE_PX, check_size, read_bytes, read_image, size_of
from facerec.data.decode import decode_rgb


class FolderSource:
    """One folder per identity; labels follow the sorted names of the folders, samples the sorted names of the images.

    What lies elsewhere, or has the suffix of no image, is passed over, see `notes`; names that begin with a dot, too.

    Args:
        root: the folder. It is listed on first use, once. A pickled source is the path alone.

    Raises:
        DataError: on first use, when there is no identity folder, or one without an image.
    """

    def __init__(self, *, root: str) -> None:
        self.root = Path(root).expanduser()
        self._listing: Listing | None = None

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
    def has_names(self) -> bool:
        """That `identities` are names."""
        return True

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

    def notes(self) -> list[str]:
        """What a user should know of the set: that something in it is not read."""
        listed = self._listed()
        if not listed.num_passed_over:
            return []
        number = f"{listed.num_passed_over} files and folders" if listed.num_passed_over > 1 else "one file or folder"
        return [f"{self.root}: {number} passed over, as {listed.first_passed_over}; facerec inspect out=... lists them"]

    def fingerprint(self) -> str:
        """SHA-256 over the names and sizes of all images, relative to the root; not over the pixels."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            relative = self.relative_path(index)
            size = size_of(str(self.root / relative))
            digest.update(f"{relative}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _listed(self) -> "Listing":
        if self._listing is None:
            self._listing = list_folders(self.root)
        return self._listing


@dataclass(frozen=True)
class Listing:
    """The N images of a set of folders.

    Attributes:
        identities: the names of the folders, sorted.
        labels: int64 (N,): which of them.
        files: names in them, sorted within each.
        num_passed_over: how many files and folders are not read, but for those beside the identity folders that are no
            images.
        first_passed_over: the first of them, and why.
    """

    identities: list[str]
    labels: np.ndarray
    files: StringTable
    num_passed_over: int
    first_passed_over: str


def list_folders(
    root: Path,
    *,
    on_fault: Callable[[Path, str], None] | None = None,
    on_passed_over: Callable[[Path, str], None] | None = None,
) -> Listing:
    """Lists one folder per identity, and the images in each.

    Args:
        root: the folder around them.
        on_fault: told a folder, and what is wrong with it, in place of raising. It stays an identity without an image.
        on_passed_over: told a file or folder that is not read, and why.

    Raises:
        DataError: there is no identity folder; or one cannot be listed, or has no image; or the crops in them are of
            an alignment that has not finished.
    """
    (identities, beside), labels, files = _entries(root), array("q"), StringTable()
    num_passed_over, first_passed_over = 0, ""

    def pass_over(path: Path, why: str) -> None:
        nonlocal num_passed_over, first_passed_over
        num_passed_over += 1
        first_passed_over = first_passed_over or f"{path}: {why}"
        if on_passed_over is not None:
            on_passed_over(path, why)

    for name in filter(_is_image, beside):
        pass_over(root / name, "an image beside the folders of the identities")
    if is_unfinished(root):
        path, says = root / SUMMARY_FILE, "facerec align has not finished here; the same command goes on"
        if on_fault is None:
            raise DataError(f"{path}: {says}. To use the crops that are there, delete this file")
        on_fault(path, says)
    if not identities:
        raise DataError(
            f"{root}: no folder in it. Expected one folder of aligned face crops per identity, or "
            "train.rec, train.idx and property (InsightFace's layout)"
        )
    for label, identity in enumerate(identities):
        folder = root / identity
        try:
            inner, found = _entries(folder)
            names = list(filter(_is_image, found))
            if not names:
                mend = f"Every folder in {root} is an identity: remove this one, or give it images"
                if inner:
                    mend = f"It has folders: if these are the identities, give {folder} as data.root"
                raise DataError(f"{folder}: no image in it ({', '.join(IMAGE_SUFFIXES)}). {mend}")
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(folder, str(error).removeprefix(f"{folder}: "))
            continue
        for name in inner:
            pass_over(folder / name, "a folder in that of an identity")
        for name in found:
            if not _is_image(name):
                pass_over(folder / name, f"its name does not end with {', '.join(IMAGE_SUFFIXES)}")
        for name in names:
            files.append(name)
            labels.append(label)
    return Listing(identities, as_int64(labels), files, num_passed_over, first_passed_over)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The names of its folders, and those of its files, sorted; but for hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names: tuple[list[str], list[str]] = ([], [])
            for entry in entries:
                if not entry.name.startswith("."):
                    names[not entry.is_dir()].append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
    return sorted(names[0]), sorted(names[1])
