"""The faces of all aligned photos, for a model that compares them, and the form of its result.

Letters: N wanted faces, K faces that were found in their photos.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from facerec.align.crops import align_crop
from facerec.align.journal import Entry, Journal
from facerec.align.photo_reader import decode_rgb, read_bytes
from facerec.align.wanted_faces import WantedFaces
from facerec.core.string_table import StringTable, as_int64

_NUM_SCORE_AND_BOX = 5
_PHOTOS_HELD = 4


class CandidateFaces:
    """The K faces of all aligned photos, photo by photo, the best by the rule first; `facerec.core.protocols.Images`.

    A photo with several faces has those whose landmarks are in its entry; another photo has the crop that was written.

    Args:
        wanted: the wanted faces.
        names: their crops.
        journal: has an entry for each.
        out: the folder of the crops.
        size_px: height and width of the crops.

    Attributes:
        number_K: int64, the number of the wanted face, ascending.
        face_K: int64, the number of the face in the entry's `faces`; 0 for the only one.
        is_taken_K: bool, True if the crop that was written shows this face.
        is_only_K: bool, True if it is the only face of its photo that may be taken.
        label_K: int64, the number of its identity.
    """

    def __init__(
        self, *, wanted: WantedFaces, names: StringTable, journal: Journal, out: Path, size_px: tuple[int, int]
    ) -> None:
        self.wanted, self.out, self.size_px = wanted, out, size_px
        self._names, self._journal = names, journal
        numbers, faces, is_taken, is_only = array("q"), array("q"), array("b"), array("b")
        digest = hashlib.sha256(repr(size_px).encode())
        for number, entry in enumerate(journal.read(names)):
            if entry is None or entry.reason is not None:
                continue
            compared = compared_faces(entry)
            for face in compared or [0]:
                numbers.append(number)
                faces.append(face)
                is_taken.append(not compared or face == entry.taken)
                is_only.append(len(compared) < 2)
            pixels = entry.faces if compared else [entry.landmarks, entry.crop_bytes]
            about = [entry.crop, entry.photo_bytes, entry.photo_mtime_ns, pixels]
            digest.update(json.dumps(about).encode())
        self.number_K, self.face_K = as_int64(numbers), as_int64(faces)
        self.is_taken_K = np.frombuffer(is_taken, dtype=np.bool_)
        self.is_only_K = np.frombuffer(is_only, dtype=np.bool_)
        self.label_K = wanted.labels[self.number_K]
        self._fingerprint = digest.hexdigest()
        self._photo = lru_cache(_PHOTOS_HELD)(self._read)  # one photo has several faces

    def __len__(self) -> int:
        return len(self.number_K)

    def fingerprint(self) -> str:
        """Returns a hexadecimal digest that changes when the faces change, and not with the face that is taken."""
        return self._fingerprint

    def image(self, index: int) -> np.ndarray:
        """Returns the crop of a face: uint8 (H, W, 3), RGB. Raises DataError if its photo or crop cannot be read."""
        entry = self.entry(int(self.number_K[index]))
        if not compared_faces(entry):
            path = str(self.out / entry.crop)
            return decode_rgb(read_bytes(path), where=path)
        assert entry.faces is not None
        landmarks = entry.faces[self.face_K[index]][_NUM_SCORE_AND_BOX:]
        return align_crop(self._photo(entry.photo), np.reshape(landmarks, (5, 2)), size_px=self.size_px)

    def name(self, index: int) -> str:
        """Returns the path of the photo."""
        return os.path.join(self.wanted.base, self.wanted.paths[int(self.number_K[index])])

    def entry(self, number: int) -> Entry:
        """Returns the entry of a wanted face that has a crop."""
        (entry,) = self._journal.read([self._names[number]])
        assert entry is not None
        return entry

    def to_take(self, choices: Mapping[int, "FaceChoice"]) -> dict[int, int]:
        """Returns the faces whose crops must be written: number of the wanted face -> number of its face.

        A photo without a choice gets the rule's face, as in a new folder: another run may have chosen another.
        """
        _, firsts = np.unique(self.number_K, return_index=True)
        faces = {
            number: choices[number].face if number in choices else first
            for number, first in zip(self.number_K[firsts].tolist(), self.face_K[firsts].tolist(), strict=True)
        }
        taken = zip(self.number_K[self.is_taken_K].tolist(), self.face_K[self.is_taken_K].tolist(), strict=True)
        return {number: faces[number] for number, face in taken if face != faces[number]}

    def _read(self, photo: str) -> np.ndarray:
        path = os.path.join(self.wanted.base, photo)
        return decode_rgb(read_bytes(path), where=path)


def compared_faces(entry: Entry) -> list[int]:
    """Returns the numbers of the faces in the entry that have landmarks; none for a photo with one face."""
    return [face for face, values in enumerate(entry.faces or []) if len(values) > _NUM_SCORE_AND_BOX]


@dataclass(frozen=True, kw_only=True)
class FaceChoice:
    """The face that was taken of a photo with several.

    Attributes:
        face: its number in the entry's `faces`.
        is_first: True if the rule takes it too.
        cosine, next_cosine: of this face, and of the best other one, to the identity's photos with one face.
        num_others: the number of these photos.
    """

    face: int
    is_first: bool
    cosine: float
    next_cosine: float
    num_others: int


@dataclass(frozen=True, kw_only=True)
class DoubtfulCrop:
    """A crop that looks unlike the other crops of its identity.

    Attributes:
        number: the number of the wanted face.
        cosine: to its identity's other crops.
        like, like_cosine: the name of the identity that it is nearest to, and the cosine.
        score: 0 .. 1, the certainty.
    """

    number: int
    cosine: float
    like: str
    like_cosine: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Holds the judgement of a model about the faces.

    Attributes:
        choices: number of the wanted face -> the choice, for photos with several faces that could be compared.
        doubtful: the most certain first.
    """

    choices: Mapping[int, FaceChoice] = field(default_factory=dict)
    doubtful: Sequence[DoubtfulCrop] = ()


class FaceJudge(Protocol):
    """Compares the faces of photos. All processes call it, with equal arguments, and get equal results."""

    def __call__(self, candidates: CandidateFaces, folder: Path) -> Judgement:
        """Returns the judgement. `folder` is for files that let an interrupted comparison resume."""
        ...
