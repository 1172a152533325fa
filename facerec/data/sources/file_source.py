"""Sets of which every image is a file of its own: what folders and tables have in common."""

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
        folder: that their paths begin at.
        relative_path: 0 .. N - 1 -> where an image lies.
        identities: names, sorted.
        labels: int64 (N,): which of them.
        landmarks: float64 (N, 5, 2) of photos that are aligned as they are read; None where the files are crops.
        size_px: height and width that photos are aligned to, and that crops must have.
        notes: what a user should know.
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
        """uint8 (H, W, 3), RGB: what the bytes of its file show, aligned where it has landmarks. Raises DataError."""
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
        root: where it is. It is read on first use, once. A pickled source is the path and the size alone.
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
        """Height and width of every crop."""
        return self._size_px

    def __len__(self) -> int:
        return len(self._files().labels)

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return len(self._files().identities)

    @property
    def identities(self) -> list[str]:
        """Their names, in the order of the labels."""
        return self._files().identities

    @property
    def has_names(self) -> bool:
        """That `identities` are names."""
        return True

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._files().labels

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3), RGB. Raises DataError, naming the file, for what is no image or of another size."""
        return self._checked_crop(index)[1]

    def encoded(self, index: int) -> bytes:
        """The file as it is, once it is known to hold a crop; of a photo that is aligned here, a JPEG of the crop.

        A PNG of it, to the pixel, where the format is none that belongs into record files. Raises as `image`.
        """
        content, crop = self._checked_crop(index)
        if self._files().landmarks is not None:
            return encode_jpeg(crop)
        is_packed = self.relative_path(index).lower().endswith(PACKED_SUFFIXES) and not is_heif(content)
        return content if is_packed else encode_png(crop)

    def name(self, index: int) -> str:
        """The sample's path."""
        return self._files().path(range(len(self))[index])

    def relative_path(self, index: int) -> str:
        """The sample's path, as the set has it."""
        return self._files().relative_path(range(len(self))[index])

    def benchmarks(self) -> list[Path]:
        """The verification files beside the images, by name."""
        return files_with_suffix(self._files().folder, ".bin")

    def notes(self) -> list[str]:
        """What a user should know of the set."""
        return list(self._files().notes)

    def fingerprint(self) -> str:
        """SHA-256 over paths as the set has them, sizes of the files, identities and landmarks; not over the pixels."""
        files = self._files()
        digest = hashlib.sha256(self._described(files))
        for index in progress_bar(range(len(self)), what="looking at sizes", unit="files"):
            line = f"{files.relative_path(index)}\0{size_of(files.path(index))}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _read(self) -> Files:
        raise NotImplementedError

    def _described(self, files: Files) -> bytes:
        """What the fingerprint covers beside the files."""
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
