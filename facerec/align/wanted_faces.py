"""Lists the faces to align, photos and identities from a folder or from lists, and the names of their crops."""

import math
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from facerec.align.landmark_files import FaceList
from facerec.align.photo_reader import PHOTO_SUFFIXES
from facerec.core.errors import ConfigError, DataError
from facerec.core.litter import is_litter
from facerec.core.string_table import StringTable, as_int64
from facerec.core.typed_text import typed

Value = TypeVar("Value")
EMPTY_FOLDER = "empty_folder"
"""The reason for an identity's folder without any photo."""
NUM_LOOKED_FOR = 100  # photos that are checked first, spread over a list of millions


@dataclass(frozen=True, kw_only=True)
class WantedFaces:
    """N faces, grouped by identity; the identities are sorted by name.

    Attributes:
        base: the folder that relative paths start at.
        paths: the paths of the photos, N; a photo with several wanted faces occurs several times.
        identities: the names, sorted; one empty name if the photos have no identities.
        labels: int64 (N,), the number of the identity; never decreasing.
        landmarks: float64 (N, 5, 2); or None, if the detector must find them.
        boxes: float64 (N, 4): left, top, width, height of the wanted face, NaN if unknown; or None.
        left_out: path, reason and detail of everything that was found and is not wanted.
    """

    base: Path
    paths: StringTable
    identities: list[str]
    labels: np.ndarray
    landmarks: np.ndarray | None
    boxes: np.ndarray | None
    left_out: list[tuple[str, str, str]]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_identities(self) -> bool:
        """False for photos without subfolders, or one photo, without a list."""
        return self.identities != [""]


def face_in_photo(photo: Path) -> WantedFaces:
    """Returns the one face of one photo, without an identity.

    Raises:
        DataError: its name has no suffix of a photo.
    """
    if not photo.name.lower().endswith(PHOTO_SUFFIXES):
        raise DataError(f"{photo}: expected a folder, or a photo whose name ends with {', '.join(PHOTO_SUFFIXES)}")
    paths, no_name = StringTable(), StringTable()
    paths.append(photo.name)
    no_name.append("")
    return _grouped(photo.parent, paths, no_name, None, None, [])


def faces_in_folder(folder: Path, *, boxes: FaceList | None = None) -> WantedFaces:
    """Returns one face of every photo below a folder; the subfolders of the folder are the identities.

    If no subfolder has a photo, the photos in the folder itself are used, without identities. Files that systems add
    are ignored (see `is_litter`). Files that are not photos, subfolders without a photo, and photos outside subfolders
    (if others are inside) are left out.

    Raises:
        DataError: the folder cannot be listed, or has no photo.
    """
    paths, identities, left_out = StringTable(), StringTable(), []
    loose, no_names = StringTable(), StringTable()
    for path in _files(folder):
        parts = PurePath(path).parts
        if not path.lower().endswith(PHOTO_SUFFIXES):
            left_out.append((path, "not_image", f"expected a name that ends with {', '.join(PHOTO_SUFFIXES)}"))
        elif len(parts) == 1:
            loose.append(path)
            no_names.append("")
        else:
            paths.append(path)
            identities.append(parts[0])
    if not len(paths) and not len(loose):
        raise DataError(
            f"{folder}: no photo in it. Expected a folder for each identity with its photos, or photos "
            "without identities"
        )
    left_out += [(name, EMPTY_FOLDER, "the folder has no photo") for name in _sub_folders(folder) - set(identities)]
    left_out.sort()
    if not len(paths):
        return _grouped(folder, loose, no_names, None, _boxes_of(loose, boxes), left_out)
    left_out += [(path, "no_identity", "it is not in the folder of an identity") for path in loose]
    return _grouped(folder, paths, identities, None, _boxes_of(paths, boxes), left_out)


def faces_in_list(
    faces: FaceList, *, base: Path, identities: FaceList | None = None, boxes: FaceList | None = None
) -> WantedFaces:
    """Returns the faces of a list, one for each line.

    The identity is that of the line; if the list has none, that of `identities` for the photo; without `identities`,
    the first folder of the path. Photos without an identity are left out. Boxes come from `boxes` first, then from the
    list.

    Raises:
        ConfigError: both files have identities.
        DataError: no photo has an identity, or another file names a photo twice, with different values.
    """
    names = faces.identities
    if names is not None and identities is not None:
        raise ConfigError("identities=...: the list of photos already has identities; remove identities")
    by_path = {} if identities is None else _by_path(identities, list(identities.identities or ()))
    paths, kept_names, left_out, kept = StringTable(), StringTable(), [], array("q")
    for number, path in enumerate(faces.paths):
        if names is not None:
            name: str | None = names[number]
        else:
            name = by_path.get(path) if identities is not None else _first_folder(path)
        if name is None:
            where = (
                "no line of identities names it" if identities is not None else "it is not in the folder of an identity"
            )
            left_out.append((path, "no_identity", where))
            continue
        kept.append(number)
        paths.append(path)
        kept_names.append(name)
    if not len(paths):
        raise DataError(
            f"none of the {len(faces.paths)} listed photos has an identity (the first is {faces.paths[0]}); give "
            "identities=<a file>: a table with path,identity, or the format of CelebA's identity_CelebA.txt"
        )
    rows = as_int64(kept)
    own_boxes = None if faces.boxes is None else faces.boxes[rows]
    return _grouped(
        base,
        paths,
        kept_names,
        None if faces.landmarks is None else faces.landmarks[rows],
        own_boxes if boxes is None else _boxes_of(paths, boxes),
        left_out,
    )


def check_photos_are_there(wanted: WantedFaces) -> None:
    """Refuses a list if none of its photos is below the folder that its paths start at.

    Raises:
        DataError: gives the place where the first photo was expected, and a folder that fits.
    """
    some = [wanted.paths[number] for number in np.unique(np.linspace(0, len(wanted) - 1, NUM_LOOKED_FOR).astype(int))]
    if any(os.path.exists(wanted.base / path) for paths in (some, wanted.paths) for path in paths):
        return
    nearby = [wanted.base.parent, *(path for path in sorted(wanted.base.glob("*")) if path.is_dir())]
    fits = next((folder for folder in nearby if any(os.path.exists(folder / path) for path in some)), None)
    raise DataError(
        f"none of the listed photos exists, such as {wanted.base / some[0]}. "
        + (
            f"{typed('photos', fits)} would fit"
            if fits
            else "Paths in a list are relative to photos=..., or to the list's folder"
        )
    )


def crop_names(wanted: WantedFaces, *, suffix: str) -> StringTable:
    """Returns the path of each crop below the folder of the crops: <identity>/<name of the photo><suffix>.

    Crops without identities are in that folder itself.

    A name that is already used gets the photo's folders in front, then a number. The names depend only on the order of
    the wanted faces. They contain no separator, and none begins with a dot, which would hide it.
    """
    names = StringTable()
    label, taken, folder = -1, set[str](), ""
    for number, path in enumerate(wanted.paths):
        if wanted.labels[number] != label:
            label, taken = int(wanted.labels[number]), set()
            folder = f"{_safe(wanted.identities[label])}/" if wanted.has_identities else ""
        stem = next(stem for stem in _stems(path) if stem.casefold() not in taken)
        taken.add(stem.casefold())
        names.append(f"{folder}{stem}{suffix}")
    return names


def _stems(path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part] or ["_"]
    last, _ = os.path.splitext(parts[-1])
    long = _safe("_".join([*parts[:-1], last]))
    yield _safe(last)
    yield long
    yield _safe("_".join(parts))
    number = 2
    while True:
        yield f"{long}_{number}"
        number += 1


def _safe(name: str) -> str:
    """Returns a name for a file; different texts give different names."""
    name = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _grouped(
    base: Path,
    paths: StringTable,
    identities: StringTable,
    landmarks: np.ndarray | None,
    boxes: np.ndarray | None,
    left_out: list[tuple[str, str, str]],
) -> WantedFaces:
    names = sorted(set(identities))
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.fromiter((numbers[name] for name in identities), dtype=np.int64, count=len(identities))
    order = labels.argsort(kind="stable")
    in_order = StringTable()
    for number in order.tolist():
        in_order.append(paths[number])
    return WantedFaces(
        base=base,
        paths=in_order,
        identities=names,
        labels=labels[order],
        landmarks=None if landmarks is None else landmarks[order],
        boxes=None if boxes is None else boxes[order],
        left_out=left_out,
    )


def _boxes_of(paths: StringTable, boxes: FaceList | None) -> np.ndarray | None:
    if boxes is None:
        return None
    assert boxes.boxes is not None
    hint = ". For several faces of a photo, list them in identities=, each with its box"
    by_path = _by_path(boxes, [tuple(box) for box in boxes.boxes.tolist()], hint=hint)
    unknown = (math.nan,) * 4
    return np.array([by_path.get(path, unknown) for path in paths], dtype=np.float64).reshape(-1, 4)


def _by_path(faces: FaceList, values: list[Value], *, hint: str = "") -> dict[str, Value]:
    found: dict[str, Value] = {}
    for path, value in zip(faces.paths, values, strict=True):
        if str(found.setdefault(path, value)) != str(value):  # as text, in which nan is nan
            raise DataError(f"{path} has two lines, with {found[path]} and {value}; expected one{hint}")
    return found


def _first_folder(path: str) -> str | None:
    pure = PurePath(path)
    if len(pure.parts) == 1 or ".." in pure.parts:
        return None
    return pure.parent.name if pure.is_absolute() else pure.parts[0]


def _sub_folders(folder: Path) -> set[str]:
    """Returns the names of the folders in a folder, without litter and links."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not is_litter(entry.name)}


def _files(folder: Path) -> Iterator[str]:
    """Yields relative paths, a folder's files before its subfolders, by name; follows links once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})")

    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in sorted(files):
            if not is_litter(name):
                yield os.path.relpath(os.path.join(place, name), folder)
