"""Makes the crop of each wanted face: reads the photo, chooses the face, warps, writes; or reports why it cannot."""

import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facerec.align.crops import align_crop
from facerec.align.crops_folder import PARTIAL_FOLDER
from facerec.align.faces import CHOICES, Detector, Faces, LooksAgain, ranked_faces
from facerec.align.journal import Entry
from facerec.align.landmark_checks import check_landmarks, geometry
from facerec.align.photo_reader import MissingReaderError, decode_rgb, encode_jpeg, encode_png, read_bytes
from facerec.align.wanted_faces import WantedFaces
from facerec.core.errors import ConfigError, DataError
from facerec.core.string_table import StringTable

NEEDS_PACKAGE = "needs_package"
"""The reason for a photo in a format that needs a package which is not installed."""
FORMATS = {"jpeg": ".jpg", "png": ".png"}
MOST_COMPARED = 16
"""How many faces of a photo a model compares; the others are worse by the rule."""


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """Settings of the crops.

    Attributes:
        choose: which of several faces; see `ranked_faces`.
        size_px: height and width.
        image_format: jpeg or png.
        jpeg_quality: 1 to 100.
    """

    choose: str = "largest"
    size_px: tuple[int, int] = (112, 112)
    image_format: str = "jpeg"
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise ConfigError(f"choose={self.choose}; expected one of {', '.join(CHOICES)}")
        if self.image_format not in FORMATS:
            raise ConfigError(f"format={self.image_format}; expected one of {', '.join(FORMATS)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality={self.jpeg_quality}; expected a number from 1 to 100")
        if not all(16 <= side <= 2048 for side in self.size_px):
            raise ConfigError(f"size={list(self.size_px)}; expected height and width, such as [112,112] or [112,96]")


class CropWriter:
    """Makes the crops of wanted faces; several threads share one writer.

    Args:
        wanted: the faces.
        names: the path of each crop below `out`; see `crop_names`.
        out: the folder of the crops, with `crops_folder.PARTIAL_FOLDER` in it.
        detector: finds the faces if `wanted` has no landmarks.
        crops: settings of the crops.
        are_compared: keep the landmarks of all faces of a photo, from which `take` can choose another one.
    """

    def __init__(
        self,
        *,
        wanted: WantedFaces,
        names: StringTable,
        out: Path,
        detector: Detector | None,
        crops: CropSettings,
        are_compared: bool = False,
    ) -> None:
        self.wanted, self.names, self.out, self.detector, self.crops = wanted, names, out, detector, crops
        self.are_compared = are_compared

    def write(self, batch: Sequence[int]) -> list[Entry]:
        """Writes the crops of the wanted faces with these numbers, and returns an entry for each."""
        entries: dict[int, Entry] = {}
        photos: dict[int, np.ndarray] = {}
        for number in batch:
            entries[number], photo = self._read(number)
            if photo is not None:
                photos[number] = photo
        if self.detector is not None and photos:
            found = self.detector(list(photos.values()))
            if len(found) != len(photos):
                raise DataError(
                    f"the detector returned faces for {len(found)} of {len(photos)} photos; expected one Faces for each"
                )
            for (number, photo), faces in zip(photos.items(), found, strict=True):
                entries[number] = self._chosen(number, entries[number], photo, faces)
        for number, photo in photos.items():
            if entries[number].reason is None:
                entries[number] = self._written(entries[number], photo)
            if entries[number].reason is not None:
                # The crop shows the photo as it was. An unreadable photo keeps its crop: a disk may be disconnected.
                (self.out / entries[number].crop).unlink(missing_ok=True)
        return list(entries.values())

    def take(self, number: int, entry: Entry, face: int) -> Entry:
        """Writes the crop of another face of the photo, and returns its entry.

        Args:
            number: the wanted face.
            entry: its entry, with the landmarks of that face.
            face: the number of the face in `entry.faces`.

        Raises:
            DataError: the photo has changed since the entry was made, or the crop cannot be written.
        """
        assert entry.faces is not None
        now, photo = self._read(number)
        if photo is None or (now.photo_bytes, now.photo_mtime_ns) != (entry.photo_bytes, entry.photo_mtime_ns):
            path = os.path.join(self.wanted.base, entry.photo)
            raise DataError(f"{path}: it has changed while it was aligned; repeat the command")
        score, *values = entry.faces[face]
        return self._written(replace(entry, score=score, box=values[:4], landmarks=values[4:], taken=face), photo)

    def _read(self, number: int) -> tuple[Entry, np.ndarray | None]:
        path = os.path.join(self.wanted.base, self.wanted.paths[number])
        size, mtime_ns = stamp(path)
        entry = Entry(
            crop=self.names[number], photo=self.wanted.paths[number], photo_bytes=size, photo_mtime_ns=mtime_ns
        )
        if size is None:
            return replace(entry, reason="missing", detail="the file does not exist"), None
        try:
            photo = decode_rgb(read_bytes(path), where=path)
        except MissingReaderError as error:
            return replace(entry, reason=NEEDS_PACKAGE, detail=str(error).removeprefix(f"{path}: ")), None
        except DataError as error:
            return replace(entry, reason="unreadable", detail=str(error).removeprefix(f"{path}: ")), None
        if self.wanted.landmarks is not None:
            entry = replace(entry, landmarks=self.wanted.landmarks[number].ravel().tolist())
            if self.wanted.boxes is not None and np.isfinite(self.wanted.boxes[number]).all():
                entry = replace(entry, box=self.wanted.boxes[number].tolist())
        return entry, photo

    def _chosen(self, number: int, entry: Entry, photo: np.ndarray, faces: Faces) -> Entry:
        box = None if self.wanted.boxes is None else self.wanted.boxes[number]
        if self.crops.choose == "nearest_box" and not np.isfinite(box).all():  # type: ignore[arg-type]
            return replace(entry, reason="no_box", detail="boxes has no box for it")
        ranked = ranked_faces(
            faces, rule=self.crops.choose, photo_size_px=(photo.shape[0], photo.shape[1]), wanted_box=box
        )
        if len(faces) and not ranked:
            others = f"none of {len(faces)} faces is at its box"
            return replace(entry, num_faces=len(faces), reason="no_face_at_box", detail=others)
        if not ranked:
            detail = "; ".join(filter(None, ["the detector finds no face", faces.searched]))
            return replace(entry, num_faces=0, reason="no_face", detail=detail)
        # If the best face has invalid landmarks, take the next valid face; without one, the best, which is rejected.
        candidates = ranked if self.crops.choose != "nearest_box" else ranked[:1]
        placed: list[Entry] = []
        for number in candidates:
            placed.append(self._placed(entry, photo, faces, number))
            if any(map(_is_sound, placed)) and not (self.are_compared and len(placed) < MOST_COMPARED):
                break
        taken = next((place for place, one in enumerate(placed) if _is_sound(one)), 0)
        if len(faces) == 1:
            return placed[taken]
        known = [[round(float(faces.scores[number]), 4), *_rounded_box(faces.boxes[number])] for number in ranked]
        if self.are_compared:
            for values, one in zip(known, placed, strict=False):
                values += one.landmarks if one.landmarks is not None and _is_sound(one) else []
        return replace(placed[taken], faces=known, taken=taken)

    def _placed(self, entry: Entry, photo: np.ndarray, faces: Faces, number: int) -> Entry:
        """Returns the entry with the detector's values for one of the faces that it found."""
        points = faces.landmarks[number]
        if isinstance(self.detector, LooksAgain):
            try:
                points = self.detector.nearer_landmarks(photo, faces, number)
            except DataError as error:
                return replace(entry, num_faces=len(faces), reason="bad_landmarks", detail=str(error))
        # Rounded to a thousandth of a pixel, as in landmarks.csv, so that the table gives the same crops.
        return replace(
            entry,
            photo_size_px=[*photo.shape[:2]],
            num_faces=len(faces),
            score=round(float(faces.scores[number]), 4),
            box=_rounded_box(faces.boxes[number]),
            landmarks=[round(value, 3) for value in points.ravel().tolist()],
            turned_deg=faces.turned_deg or None,
        )

    def _written(self, entry: Entry, photo: np.ndarray) -> Entry:
        points = np.array(entry.landmarks, dtype=np.float64).reshape(5, 2)
        entry = replace(entry, photo_size_px=[*photo.shape[:2]])
        try:
            check_landmarks(points, photo_size_px=(photo.shape[0], photo.shape[1]))
            crop = align_crop(photo, points, size_px=self.crops.size_px)
        except DataError as error:
            return replace(entry, reason="bad_landmarks", detail=str(error))
        is_png = self.crops.image_format == "png"
        content = encode_png(crop) if is_png else encode_jpeg(crop, quality=self.crops.jpeg_quality)
        path = self.out / entry.crop
        partial = self.out / PARTIAL_FOLDER / f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        try:
            partial.write_bytes(content)
            path.parent.mkdir(exist_ok=True)
            os.replace(partial, path)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be written ({error.strerror}). Repeat the command to resume once it can"
            ) from None
        return replace(entry, crop_bytes=len(content))


def _rounded_box(box: np.ndarray) -> list[float]:
    return [round(value, 2) for value in box.tolist()]


def _is_sound(entry: Entry) -> bool:
    if entry.landmarks is None or entry.photo_size_px is None:
        return False
    return bool(geometry([np.reshape(entry.landmarks, (5, 2))], [entry.photo_size_px]).is_sound[0])


def stamp(path: str) -> tuple[int | None, int | None]:
    """Returns the size in bytes and the modification time of a file in nanoseconds; None if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns
