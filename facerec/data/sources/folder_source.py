"""Sets of labelled face crops as one folder per identity."""

import os
from array import array
from collections.abc import Callable
from pathlib import Path

from facerec.align.crops_folder import SUMMARY_FILE, is_unfinished
from facerec.core.errors import DataError
from facerec.core.litter import is_litter
from facerec.core.progress_bar import progress_bar
from facerec.core.string_table import StringTable, as_int64
from facerec.data.sources.crop_files import COMPANION_SUFFIXES, IMAGE_SUFFIXES
from facerec.data.sources.file_source import Files, FileSource

WITHOUT_IDENTITIES = (
    ". facerec align made these crops without identities: give it photos in a folder for each person, or identities="
)


class FolderSource(FileSource):
    """One folder per identity; labels follow the sorted names of the folders, samples the sorted names of the images.

    Files in other places, or without the suffix of an image, are skipped, see `notes`; files that systems add are
    skipped without a note, see `is_litter`.

    Args:
        root: the folder. It is listed on first use, once. A pickled source holds only the path and the size.
        size_px: height and width of the crops.

    Raises:
        DataError: on first use, if there is no identity folder, or one has no image.
    """

    def _read(self) -> Files:
        return list_folders(self.root, size_px=self.size_px)

    def _described(self, files: Files) -> bytes:
        return b""  # the paths contain everything


def list_folders(
    root: Path,
    *,
    size_px: tuple[int, int],
    on_fault: Callable[[Path, str], None] | None = None,
    on_passed_over: Callable[[Path, str], None] | None = None,
) -> Files:
    """Lists one folder per identity, and the images in each.

    Args:
        root: the folder that contains them.
        size_px: see `Files`.
        on_fault: called with a folder and its fault, instead of raising. It stays an identity without an image.
        on_passed_over: called with a file or folder that is skipped, and why.

    Raises:
        DataError: there is no identity folder; one cannot be listed, or has no image; or an unfinished alignment is
            making the crops.
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
        path, says = root / SUMMARY_FILE, "facerec align has not finished here; repeat its command to resume"
        if on_fault is None:
            raise DataError(f"{path}: {says}. To use the existing crops, delete this file")
        on_fault(path, says)
    if not identities:
        num_images = sum(map(_is_image, beside))
        raise DataError(
            f"{root}: {f'{num_images} images, but ' if num_images else ''}no folder in it. Expected one folder of "
            "aligned face crops per identity, or train.rec, train.idx and property (InsightFace's layout)"
            + (WITHOUT_IDENTITIES if num_images and (root / SUMMARY_FILE).is_file() else "")
        )
    for label, identity in enumerate(progress_bar(identities, what="listing", unit="identities")):
        folder = root / identity
        try:
            inner, found = _entries(folder)
            names = list(filter(_is_image, found))
            if not names:
                mend = f"Every folder in {root} is an identity: remove this one, or give it images"
                if inner:
                    mend = f"It has subfolders: if these are the identities, give {folder} as data.root"
                raise DataError(f"{folder}: no image in it ({', '.join(IMAGE_SUFFIXES)}). {mend}")
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(folder, str(error).removeprefix(f"{folder}: "))
            continue
        for name in inner:
            pass_over(folder / name, "a folder inside the folder of an identity")
        for name in found:
            if not _is_image(name) and not name.lower().endswith(COMPANION_SUFFIXES):
                pass_over(folder / name, f"its name does not end with {', '.join(IMAGE_SUFFIXES)}")
        for name in names:
            files.append(name)
            labels.append(label)
    notes: tuple[str, ...] = ()
    if num_passed_over:
        number = f"{num_passed_over} files and folders" if num_passed_over > 1 else "one file or folder"
        notes = (f"{root}: {number} passed over, as {first_passed_over}; facerec inspect out=... lists them",)
    known = as_int64(labels)
    return Files(
        folder=root,
        relative_path=lambda index: os.path.join(identities[known[index]], files[index]),
        identities=identities,
        labels=known,
        size_px=size_px,
        notes=notes,
    )


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of its folders, and those of its files, sorted; without litter."""
    try:
        with os.scandir(folder) as entries:
            names: tuple[list[str], list[str]] = ([], [])
            for entry in entries:
                if not is_litter(entry.name):
                    names[not entry.is_dir()].append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
    return sorted(names[0]), sorted(names[1])
