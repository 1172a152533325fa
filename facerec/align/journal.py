"""What has been done with each photo, in a file that grows line by line: where an interrupted alignment goes on."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from facerec.core.errors import DataError

ENTRIES_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One wanted face, done.

    Attributes:
        crop: its path below the folder of the crops; also where it would have gone, had it not been rejected.
        photo: the photo's path, as the wanted faces have it.
        photo_bytes, photo_mtime_ns: what the photo was then; None where it was missing.
        crop_bytes: size of the crop's file; None where it was rejected.
        photo_size_px: its height and width, turned upright; None where no landmarks were judged in it.
        landmarks: x1, y1 ... x5, y5 in pixels of the photo.
        score, box, num_faces: what the detector said of the face, and how many it found.
        turned_deg: by how much the photo lies turned clockwise; None where it is upright.
        reason, detail: why it was rejected: a word, and a sentence.
    """

    crop: str
    photo: str
    photo_bytes: int | None = None
    photo_mtime_ns: int | None = None
    crop_bytes: int | None = None
    photo_size_px: list[int] | None = None
    landmarks: list[float] | None = None
    score: float | None = None
    box: list[float] | None = None
    num_faces: int | None = None
    turned_deg: int | None = None
    reason: str | None = None
    detail: str | None = None


class Journal:
    """The entries of a file, by crop; of several for one crop the last counts.

    Args:
        path: the file; made if absent. Half a line at its end, where a process was killed, is cut off.

    Raises:
        DataError: a line in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: dict[str, int] = {}  # entries stay in the file: millions of them
        path.touch()
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._offsets[Entry(**json.loads(line)).crop] = offset
                except (ValueError, TypeError):
                    raise DataError(
                        f"{path}: damaged at byte {offset}; delete it, and every photo is aligned anew"
                    ) from None
                offset += len(line)
        os.truncate(path, offset)
        self._end = offset

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def read(self, crops: Iterable[str]) -> Iterator[Entry | None]:
        """The entry of each crop, or None."""
        with self.path.open("rb") as file:
            for crop in crops:
                if crop in self._offsets:
                    file.seek(self._offsets[crop])
                    yield Entry(**json.loads(file.readline()))
                else:
                    yield None

    def take_over(self, path: Path) -> None:
        """Adds the entries of another journal, and removes that."""
        other = Journal(path)
        entries = (entry for entry in other.read(other) if entry is not None)
        while block := list(islice(entries, ENTRIES_AT_ONCE)):
            self.append(block)
        path.unlink()

    def append(self, entries: Iterable[Entry]) -> None:
        """Adds entries at the end; they are on disk when this returns. Raises DataError where it cannot be written."""
        try:
            with self.path.open("ab") as file:
                for entry in entries:
                    line = json.dumps({key: value for key, value in asdict(entry).items() if value is not None}) + "\n"
                    file.write(line.encode())
                    self._offsets[entry.crop] = self._end
                    self._end += len(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror}). The same command goes on from here once it can"
            ) from None
