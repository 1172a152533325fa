"""Records what was done with each photo, line by line in a file, so that an interrupted alignment can resume."""

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
    """The result for one wanted face.

    Attributes:
        crop: its path below the folder of the crops; also the planned path of a rejected face.
        photo: the photo's path, as in the wanted faces.
        photo_bytes, photo_mtime_ns: size and modification time of the photo then; None if it was missing.
        crop_bytes: size of the crop's file; None if the face was rejected.
        photo_size_px: height and width of the upright photo; None if no landmarks were checked in it.
        landmarks: x1, y1 ... x5, y5 in pixels of the photo.
        score, box, num_faces: the detector's values for the face, and the number of faces that it found.
        faces: in a photo with several faces: score and box of each face that may be taken, the best first; if a model
            compares them, its landmarks follow, unless they are invalid.
        taken: the number of the face in `faces` that was taken.
        turned_deg: the clockwise rotation of the photo; None if it is upright.
        reason, detail: why the face was rejected: a word, and a sentence.
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
    faces: list[list[float]] | None = None
    taken: int | None = None
    turned_deg: int | None = None
    reason: str | None = None
    detail: str | None = None


class Journal:
    """The entries of a file, by crop; the last entry of a crop counts.

    Args:
        path: the file; made if absent. An incomplete line at its end, from a killed process, is removed.

    Raises:
        DataError: a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: dict[str, int] = {}  # the entries stay in the file, because there may be millions
        path.touch()
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._offsets[Entry(**json.loads(line)).crop] = offset
                except (ValueError, TypeError):
                    raise DataError(f"{path}: damaged at byte {offset}; delete it to align every photo again") from None
                offset += len(line)
        os.truncate(path, offset)
        self._end = offset

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def read(self, crops: Iterable[str]) -> Iterator[Entry | None]:
        """Returns the entry of each crop, or None."""
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
        """Adds entries at the end and flushes them to disk. Raises DataError if the file cannot be written."""
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
                f"{self.path}: cannot be written ({error.strerror}). Repeat the command to resume once it can"
            ) from None
