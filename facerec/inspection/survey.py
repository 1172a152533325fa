"""Reads all images of a set once, and keeps only a digest, two bits and the label of each.

Letters: N items; in a faulty set, some may have no image or no label.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from facerec.align.landmark_checks import BadLandmarksError
from facerec.core.crop_size import check_size
from facerec.core.errors import DataError
from facerec.core.progress_bar import progress_bar
from facerec.core.threads import in_threads
from facerec.inspection.empty_crops import emptiness
from facerec.inspection.findings import Findings

DIGEST_BYTES = 16
NO_LABEL = -1
_ITEMS_AT_ONCE = 64
_MOST_SIZES = 10


class Seen(NamedTuple):
    """The result of reading one item.

    Attributes:
        digest: digest of the image's bytes; None if they could not be read.
        faults: (kind, what) of each fault.
        is_image: True if it decodes into a crop of any size.
        is_sound: True if it is a crop of the right size.
        is_grey: True if all its pixels are grey.
        size_px: height and width, if it decodes.
    """

    digest: bytes | None
    faults: tuple[tuple[str, str], ...] = ()
    is_image: bool = False
    is_sound: bool = False
    is_grey: bool = False
    size_px: tuple[int, int] | None = None


class Items(Protocol):
    """A set under inspection: it opens with any faults, and lists them."""

    @property
    def kind(self) -> str:
        """Returns the kind of the set, in a few words."""
        ...

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width that every crop must have."""
        ...

    def __len__(self) -> int: ...

    def see(self, index: int) -> Seen:
        """Reads and decodes an item. Threads may call it concurrently. Faults of the set raise nothing."""
        ...

    def place(self, index: int) -> tuple[str, str]:
        """Returns file and place in it."""
        ...

    def crop(self, index: int) -> np.ndarray:
        """Returns a sound item: uint8 (H, W, 3), RGB."""
        ...

    def identity(self, label: int) -> str:
        """Returns the name of an identity."""
        ...

    def check_labels(self, faults: Findings) -> np.ndarray:
        """Returns the labels after all items were read: int64 (N,), NO_LABEL for none. Adds faults of the labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The results of the pass.

    Attributes:
        labels_N: int64 (N,); NO_LABEL for none.
        digests_N2: uint64 (N, 2); zeros if the bytes could not be read.
        is_image_N: bool (N,), True if it decodes.
        is_sound_N: bool (N,), True if it decodes into a crop of the right size.
        is_grey_N: bool (N,).
        num_of_size: number of images that decode into each height and width.
    """

    labels_N: np.ndarray
    digests_N2: np.ndarray
    is_image_N: np.ndarray
    is_sound_N: np.ndarray
    is_grey_N: np.ndarray
    num_of_size: Counter[tuple[int, int]]

    def identities(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the labels of the images, ascending, and the number of images of each: int64 (I,), (I,)."""
        labels, counts = np.unique(self.labels_N, return_counts=True)
        return labels[labels != NO_LABEL], counts[labels != NO_LABEL]

    def other_sizes(self, size_px: tuple[int, int]) -> list[tuple[tuple[int, int], int]]:
        """Returns the other heights and widths of images, with the number of each; the most frequent first."""
        return [(size, number) for size, number in self.num_of_size.most_common() if size != size_px][:_MOST_SIZES]

    def fingerprint(self) -> str:
        """Returns SHA-256 over the labels and the bytes of all images, in their order.

        A packed set has the digest of the folders that it was made from.
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.labels_N, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.digests_N2, dtype="<u8").data)
        return digest.hexdigest()


def survey(items: Items, faults: Findings, *, num_threads: int, progress: bool = True) -> Survey:
    """Reads and checks all items, then their labels.

    Args:
        items: the set.
        faults: the faults are added to this.
        num_threads: number of threads that read and decode.
        progress: show the progress.
    """
    num_items = len(items)
    digests_N2 = np.zeros((num_items, 2), dtype=np.uint64)
    is_image_N, is_sound_N, is_grey_N = (np.zeros(num_items, dtype=bool) for _ in range(3))
    num_of_size: Counter[tuple[int, int]] = Counter()

    def see(start: int) -> list[Seen]:
        return [items.see(index) for index in range(start, min(start + _ITEMS_AT_ONCE, num_items))]

    starts = range(0, num_items, _ITEMS_AT_ONCE)
    with progress_bar(what="inspecting", unit="images", total=num_items, shown=progress) as bar:
        for start, block in zip(starts, in_threads(see, starts, num_threads=num_threads), strict=True):
            for index, seen in enumerate(block, start=start):
                if seen.digest is not None:
                    digests_N2[index] = np.frombuffer(seen.digest, dtype="<u8")
                is_image_N[index], is_sound_N[index], is_grey_N[index] = seen.is_image, seen.is_sound, seen.is_grey
                if seen.size_px is not None:
                    num_of_size[seen.size_px] += 1
                for kind, what in seen.faults:
                    faults.add(kind, *items.place(index), what)
            bar.update(len(block))
    return Survey(
        labels_N=items.check_labels(faults),
        digests_N2=digests_N2,
        is_image_N=is_image_N,
        is_sound_N=is_sound_N,
        is_grey_N=is_grey_N,
        num_of_size=num_of_size,
    )


def see_image(
    content: bytes, decode: Callable[[bytes], np.ndarray], *, where: str, size_px: tuple[int, int], also: bytes = b""
) -> Seen:
    """Decodes the bytes of an image, and checks its size and that it shows something.

    Args:
        content: the bytes.
        decode: decodes to uint8 (H, W, 3); raises DataError, with `where` first.
        where: names the image.
        size_px: height and width that it must have.
        also: further values that determine the image, for its digest.
    """
    import cv2

    digest = hashlib.blake2b(content + also, digest_size=DIGEST_BYTES).digest()
    try:
        image = decode(content)
    except BadLandmarksError as error:
        return Seen(digest, (("landmarks", without(where, error)),))
    except DataError as error:
        return Seen(digest, (("no image", without(where, error)),))
    except cv2.error as error:  # a photo of a size that OpenCV cannot warp
        return Seen(digest, (("no image", f"OpenCV cannot use it ({error.err})"),))
    found_px = (image.shape[0], image.shape[1])
    try:
        check_size(image, where=where, size_px=size_px)
    except DataError as error:
        return Seen(digest, (("size", without(where, error)),), is_image=True, size_px=found_px)
    return Seen(digest, emptiness(image), is_image=True, is_sound=True, is_grey=is_grey(image), size_px=found_px)


def without(where: str, error: Exception) -> str:
    """Returns the message without the place at its beginning."""
    return str(error).removeprefix(f"{where}: ")


def is_grey(image: np.ndarray) -> bool:
    """True if red, green and blue of uint8 (H, W, 3) are equal everywhere."""
    # most colour images show a difference in a few pixels
    return all((part[..., :2] == part[..., 1:]).all() for part in (image[::16, ::16], image))


def num_images_bins(counts: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns the histogram of images per identity: (fewest, most, number of identities) for 1, 2 - 3, 4 - 7, ..."""
    if not len(counts):
        return []
    per_bin = np.bincount(np.floor(np.log2(counts)).astype(np.int64))
    return [(1 << bit, (2 << bit) - 1, number) for bit, number in enumerate(per_bin.tolist())]


def equal_items(digests_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns items whose digest an earlier item has, ascending, and the first such item: int64 (D,), (D,)."""
    has_bytes = np.flatnonzero(digests_N2.any(axis=1))
    order = has_bytes[digests_N2[has_bytes, 0].argsort(kind="stable")]
    half = digests_N2[order, 0]
    is_suspect = np.zeros(len(order), dtype=bool)
    is_suspect[1:] = half[1:] == half[:-1]
    is_suspect[:-1] |= is_suspect[1:]
    suspects = np.sort(order[is_suspect])
    _, firsts, groups = np.unique(digests_N2[suspects], axis=0, return_index=True, return_inverse=True)
    first_of = suspects[firsts[groups.reshape(-1)]]
    again = first_of != suspects
    return suspects[again], first_of[again]


def find_duplicates(items: Items, found: Survey, faults: Findings) -> None:
    """Adds every image with the same bytes as an earlier one."""
    for index, first in zip(*(map(int, numbers) for numbers in equal_items(found.digests_N2)), strict=True):
        file, record = items.place(first)
        ours, own_record = items.place(index)
        named = record if record and file == ours else f"{file}{record and f', {record}'}"
        label, other = found.labels_N[index], found.labels_N[first]
        if label == other:
            faults.add("duplicate", ours, own_record, f"the same bytes as {named}")
        else:
            faults.add(
                "duplicate of another identity", ours, own_record,
                f"the same bytes as {named}, but this is {_named(items, label)} and that is {_named(items, other)}",
            )  # fmt: skip


def find_empty_identities(items: Items, found: Survey, faults: Findings) -> None:
    """Adds every identity without a readable image. An identity with images of a wrong size is not empty."""
    if found.is_image_N.all():
        return
    unusable = np.setdiff1d(found.labels_N[found.labels_N != NO_LABEL], found.labels_N[found.is_image_N])
    of_them = np.flatnonzero(np.isin(found.labels_N, unusable))
    labels, firsts, counts = np.unique(found.labels_N[of_them], return_index=True, return_counts=True)
    for label, first, count in zip(labels.tolist(), of_them[firsts].tolist(), counts.tolist(), strict=True):
        file, _ = items.place(first)
        what = f"none of the {count} images can be used" if count > 1 else "its only image cannot be used"
        faults.add("empty identity", file, _named(items, label), what)


def note_grey(items: Items, found: Survey, notes: Findings) -> None:
    """Adds the grey images. If most images are grey, only their number is added."""
    if 2 * found.is_grey_N.sum() > found.is_sound_N.sum():
        return
    for index in map(int, np.flatnonzero(found.is_grey_N)):
        notes.add("greyscale", *items.place(index), "its pixels are all grey")


def _named(items: Items, label: int) -> str:
    return "of no identity" if label == NO_LABEL else f"identity {items.identity(int(label))}"


def sampled_rows(
    found: Survey, *, num_identities: int, images_per_identity: int, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Draws identities that have sound images, and some images of each, in their order: (label, int64 (n,) items).

    Identities with one sound image are drawn only if too few have several: a wrong image is easy to see next to another
    image of the same person.
    """
    rng = np.random.default_rng(seed)
    sound = np.flatnonzero(found.is_sound_N & (found.labels_N != NO_LABEL))
    labels = found.labels_N[sound]
    present, num_sound = np.unique(labels, return_counts=True)
    in_drawn_order = rng.permutation(len(present))
    several_first = in_drawn_order[np.argsort(num_sound[in_drawn_order] == 1, kind="stable")]
    chosen = np.sort(present[several_first[:num_identities]])
    for label in chosen.tolist():
        own = sound[labels == label]
        yield label, np.sort(rng.choice(own, min(images_per_identity, len(own)), replace=False))
