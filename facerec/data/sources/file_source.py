"""Sets with a separate file for each image: the common part of folders and tables."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.crops import align_crop
from facerec.align.landmark_checks import BadLandmarksError, check_landmarks
from facerec.align.photo_reader import decode_rgb, encode_jpeg, encode_png, is_heif, read_bytes
from facerec.core.crop_size import DEFAULT_SIZE_PX, check_size
from facerec.core.errors import DataError
from facerec.core.litter import files_with_suffix
from facerec.core.progress_bar import progress_bar
from facerec.core.source import Source
from facerec.data.sources.crop_files import PACKED_SUFFIXES, size_of


@dataclass(frozen=True, kw_only=True)
class Files:
    """The N images of a set.

    Attributes:
        folder: the folder that their paths start at.
        relative_path: 0 .. N - 1 -> path of an image.
        identities: names, sorted.
        labels: int64 (N,): number of the identity.
        landmarks: float64 (N, 5, 2) of photos that are aligned while they are read; None if the files are crops.
        size_px: height and width to which photos are aligned, and which crops must have.
        notes: notes for the user.
    """

    folder: Path
    relative_path: Callable[[int], str]
    identities: list[str]
    labels: np.ndarray
    landmarks: np.ndarray | None = None
    size_px: tuple[int, int] = DEFAULT_SIZE_PX
    notes: tuple[str, ...] = ()

    def path(self, index: int) -> str:
        """Of an image."""
        return os.path.join(self.folder, self.relative_path(index))

    def decoded(self, index: int, content: bytes) -> np.ndarray:
        """Decodes the bytes of a file, aligned if it has landmarks: uint8 (H, W, 3), RGB. Raises DataError."""
        where = self.path(index)
        image = decode_rgb(content, where=where)
        if self.landmarks is None:
            return image
        try:
            check_landmarks(self.landmarks[index], photo_size_px=(image.shape[0], image.shape[1]))
            return align_crop(image, self.landmarks[index], size_px=self.size_px)
        except BadLandmarksError as error:
            raise BadLandmarksError(f"{where}: {error}", photo_size_px=error.photo_size_px) from None
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


class FileSource(Source):
    """A set of files. Samples are in the order of `Files`.

    Args:
        root: path of the set. It is read on first use, once. A pickled source holds only the path and the size.
        size_px: height and width of the crops.
    """

    def __init__(self, *, root: str, size_px: tuple[int, int] = DEFAULT_SIZE_PX) -> None:
        self.root = Path(root).expanduser()
        self._size_px = size_px
        self._found: Files | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": None}

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width of every crop."""
        return self._size_px

    def __len__(self) -> int:
        return len(self._files().labels)

    @property
    def num_classes(self) -> int:
        """Returns the number of identities."""
        return len(self._files().identities)

    @property
    def identities(self) -> list[str]:
        """Returns their names, in the order of the labels."""
        return self._files().identities

    @property
    def has_names(self) -> bool:
        """True, because `identities` are names."""
        return True

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._files().labels

    def image(self, index: int) -> np.ndarray:
        """Returns uint8 (H, W, 3), RGB. Raises DataError, which names the file, if it is not a crop of this size."""
        return self._checked_crop(index)[1]

    def encoded(self, index: int) -> bytes:
        """Returns the unchanged file after checking that it is a crop; for a photo that is aligned here, a JPEG.

        It is a lossless PNG of the crop if record files cannot hold the file's format. Raises as `image`.
        """
        content, crop = self._checked_crop(index)
        if self._files().landmarks is not None:
            return encode_jpeg(crop)
        is_packed = self.relative_path(index).lower().endswith(PACKED_SUFFIXES) and not is_heif(content)
        return content if is_packed else encode_png(crop)

    def name(self, index: int) -> str:
        """Returns the sample's path."""
        return self._files().path(range(len(self))[index])

    def relative_path(self, index: int) -> str:
        """Returns the sample's path relative to the set."""
        return self._files().relative_path(range(len(self))[index])

    def benchmarks(self) -> list[Path]:
        """Returns the verification files in the folder of the images, by name."""
        return files_with_suffix(self._files().folder, ".bin")

    def notes(self) -> list[str]:
        """Returns notes about the set for the user."""
        return list(self._files().notes)

    def fingerprint(self) -> str:
        """Returns SHA-256 over relative paths, file sizes, identities and landmarks; not over the pixels."""
        files = self._files()
        digest = hashlib.sha256(self._described(files))
        for index in progress_bar(range(len(self)), what="looking at sizes", unit="files"):
            line = f"{files.relative_path(index)}\0{size_of(files.path(index))}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _read(self) -> Files:
        raise NotImplementedError

    def _described(self, files: Files) -> bytes:
        """Returns what the fingerprint covers in addition to the files."""
        raise NotImplementedError

    def _files(self) -> Files:
        if self._found is None:
            self._found = self._read()
        return self._found

    def _checked_crop(self, index: int) -> tuple[bytes, np.ndarray]:
        files, index = self._files(), range(len(self))[index]
        where = files.path(index)
        content = read_bytes(where)
        return content, check_size(files.decoded(index, content), where=where, size_px=self.size_px)
