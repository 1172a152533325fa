"""Inspects a verification set (`.bin`): its images, its pairs, its folds. Letter: P pairs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerec.align.photo_reader import decode_rgb
from facerec.core.errors import DataError
from facerec.data.verification_file import as_image, as_truth, read_lists
from facerec.inspection.findings import Findings
from facerec.inspection.survey import NO_LABEL, Seen, Survey, see_image, without


class PairItems:
    """The images of a verification set; see `facerec.inspection.survey.Items`.

    The label of an image is 1 in a pair of one person, and 0 in a pair of two.

    Args:
        path: the `.bin`.
        faults: faults that are found without decoding the images are added to this.
        size_px: height and width that the images must have; None: the size of the first image.

    Raises:
        DataError: it is not such a file, or names objects that such a file does not need.
    """

    def __init__(self, *, path: Path, faults: Findings, size_px: tuple[int, int] | None = None) -> None:
        self._path = path
        self._images, truths = read_lists(path)
        num_pairs = min(len(self._images) // 2, len(truths))
        if len(self._images) != 2 * len(truths) or not truths:
            what = f"{len(self._images)} images for {len(truths)} pairs; expected two images for each"
            faults.add("pair", path, "", what)
        self.is_same = np.full(num_pairs, NO_LABEL, dtype=np.int8)
        for number, truth in enumerate(truths[:num_pairs]):
            try:
                self.is_same[number] = as_truth(truth, "pair")
            except DataError as error:
                faults.add("pair", path, f"pair {number}", without("pair", error))
        first = None if size_px else next(self._decodable(), None)
        self.size_px = size_px or ((0, 0) if first is None else (first.shape[0], first.shape[1]))
        kinds = {"encoded" if isinstance(image, bytes) else "arrays" for image in self._good_images()}
        self.kind = f"a verification set, {' and '.join(sorted(kinds))}"

    def __len__(self) -> int:
        return len(self._images)

    def see(self, index: int) -> Seen:
        """See `Items`."""
        where = f"image {index}"
        try:
            image = as_image(self._images[index], where)
        except DataError as error:
            return Seen(None, (("no image", without(where, error)),))
        if isinstance(image, bytes):
            return see_image(image, lambda content: decode_rgb(content, where=where), where=where, size_px=self.size_px)
        shape = repr(image.shape).encode()
        return see_image(image.tobytes(), lambda _: image, where=where, size_px=self.size_px, also=shape)

    def place(self, index: int) -> tuple[str, str]:
        """See `Items`."""
        return str(self._path), f"image {index}"

    def crop(self, index: int) -> np.ndarray:
        """See `Items`."""
        where = f"{self._path}, image {index}"
        image = as_image(self._images[index], where)
        return decode_rgb(image, where=where) if isinstance(image, bytes) else image

    def identity(self, label: int) -> str:
        """Returns the label, see `Items`: the people have no names here."""
        return str(label)

    def check_labels(self, faults: Findings) -> np.ndarray:
        """See `Items`."""
        labels = np.full(len(self), NO_LABEL, dtype=np.int64)
        labels[: 2 * len(self.is_same)] = self.is_same.repeat(2)
        return labels

    def check_pairs(self, found: Survey, faults: Findings, notes: Findings, *, num_folds: int) -> None:
        """Adds pairs of one image with itself, and folds of one kind; and notes pairs that occur twice."""
        if not len(self.is_same):
            return
        digests = found.digests_N2[: 2 * len(self.is_same)].reshape(-1, 2, 2)
        is_read = np.all(np.any(digests, axis=2), axis=1)
        equal = is_read & np.all(digests[:, 0] == digests[:, 1], axis=1)
        for number in np.flatnonzero(equal).tolist():
            mends = {1: "any model is right about them", 0: "so they are of one person, not of two"}
            what = f"both images are the same, {mends.get(int(self.is_same[number]), 'and issame is damaged')}"
            faults.add("equal pair", self._path, f"pair {number}", what)
        first_of: dict[tuple[bytes, ...], int] = {}
        for number in np.flatnonzero(is_read).tolist():
            key = tuple(sorted(digest.tobytes() for digest in digests[number]))
            if (first := first_of.setdefault(key, number)) != number:
                notes.add("repeated pair", self._path, f"pair {number}", f"the same two images as pair {first}")
        stop = 0
        for fold, is_same in enumerate(np.array_split(self.is_same, num_folds), start=1):
            start, stop = stop, stop + len(is_same)
            place = f"pairs {start} .. {stop - 1}" if stop > start else f"fold {fold}"
            num_same, num_other = int((is_same == 1).sum()), int((is_same == 0).sum())
            if not num_same or not num_other:
                kinds = f"{num_same} of one person and {num_other} of two"
                what = f"fold {fold} of {num_folds} has {kinds}; the protocol needs both kinds in each"
                faults.add("fold of one kind", self._path, place, what)

    def sampled_pairs(self, found: Survey, *, is_same: bool, num_pairs: int, seed: int) -> np.ndarray:
        """Draws pairs of one kind with usable images: int64, ascending."""
        is_sound = found.is_sound_N[: 2 * len(self.is_same)].reshape(-1, 2).all(axis=1)
        pairs = np.flatnonzero(is_sound & (self.is_same == int(is_same)))
        return np.sort(np.random.default_rng(seed).choice(pairs, min(num_pairs, len(pairs)), replace=False))

    def _good_images(self) -> Iterator[bytes | np.ndarray]:
        for item in self._images:
            try:
                yield as_image(item, "")
            except DataError:
                continue

    def _decodable(self) -> Iterator[np.ndarray]:
        for image in self._good_images():
            try:
                yield decode_rgb(image, where="") if isinstance(image, bytes) else image
            except DataError:
                continue
