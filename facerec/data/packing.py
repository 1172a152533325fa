"""Packs a set into InsightFace's record layout, and pairs of it into a verification file."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path

import numpy as np

from facerec.align.photo_reader import encode_png
from facerec.core.atomic_file import atomic_file
from facerec.core.csv_lines import csv_row
from facerec.core.errors import DataError
from facerec.core.progress_bar import progress_bar
from facerec.core.source import Source
from facerec.core.threads import in_threads
from facerec.data.pair_folds import spread_kinds
from facerec.data.records.recordio import write_record_set
from facerec.data.sources.identity_names import NAMES_COLUMNS, NAMES_FILE
from facerec.data.verification_file import dump_pairs, read_pairs, write_pairs

VAL_FILE = "val.bin"


def pack_training_set(
    source: Source,
    out: Path,
    *,
    samples: np.ndarray,
    num_threads: int,
    layout: str = "insightface",
    val_pairs: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Writes `train.rec`, `train.idx`, `property`, `train.lst` and `identities.csv`, a few images in memory at a time.

    `train.rec` appears last: if it exists, everything is complete.

    Identities are numbered from 0, in the order of their labels, without gaps. `train.lst` has a line per image, as
    InsightFace has it: 1 (it is aligned), its origin, label. The bytes of the images are not changed.

    Args:
        source: the set of crops.
        out: the folder; made if absent.
        samples: int64 (n,), the samples to pack.
        num_threads: number of threads that read and decode.
        layout: layout of the record file, see `write_record_set`.
        val_pairs: int64 (P, 2) and bool (P,): pairs of samples for `val.bin`, see `pack_pairs`.

    Raises:
        DataError: `out` already holds a set, there is no sample, or a sample is not a crop.
    """
    labels = source.labels
    samples = samples[labels[samples].argsort(kind="stable")]
    new_label = {label: number for number, label in enumerate(np.unique(labels[samples]).tolist())}
    height_px, width_px = source.size_px
    identities = source.identities
    out.mkdir(parents=True, exist_ok=True)

    def by_identity() -> Generator[Iterator[bytes]]:
        with ExitStack() as whole:  # ends before write_record_set ends
            if val_pairs is not None:
                pairs, is_same = val_pairs
                val_file = whole.enter_context(atomic_file(out / VAL_FILE))
                dump_pairs(val_file, _crops_of_pairs(source, pairs, num_threads=num_threads), is_same.tolist())
            listed = whole.enter_context(atomic_file(out / "train.lst"))
            names = whole.enter_context(atomic_file(out / NAMES_FILE))
            names.write(csv_row(*NAMES_COLUMNS))

            def crops_of(label: int, crops: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
                number = 0
                for index, crop in crops:
                    yield crop
                    listed.write(f"1\t{source.name(index)}\t{new_label[label]}\n".encode("utf-8", "surrogateescape"))
                    number += 1
                names.write(csv_row(new_label[label], identities[label], number))

            crops = in_threads(lambda index: (index, source.encoded(index)), samples.tolist(), num_threads=num_threads)
            packed = progress_bar(crops, what="packing", unit="images", total=len(samples))
            groups = groupby(packed, key=lambda crop: int(labels[crop[0]]))
            yield from (crops_of(label, group) for label, group in groups)

    with closing(by_identity()) as images:
        write_record_set(out, images, height_px=height_px, width_px=width_px, layout=layout)


def pack_pairs(source: Source, path: Path, *, pairs: np.ndarray, is_same: np.ndarray, num_threads: int) -> None:
    """Writes a verification file of pairs of samples.

    Args:
        source: the set of crops.
        path: the `.bin`.
        pairs: int64 (P, 2) sample numbers.
        is_same: bool (P,).
        num_threads: number of threads that read and decode.

    Raises:
        DataError: `path` already exists, or a sample is not a crop.
    """
    if path.exists():
        raise DataError(f"{path} already exists; delete it, or write to another file")
    write_pairs(path, _crops_of_pairs(source, pairs, num_threads=num_threads), is_same.tolist())


def deal_pairs(path: Path, out: Path) -> np.ndarray:
    """Writes the pairs of a verification file in another order, in which every contiguous part has both kinds.

    Args:
        path: the `.bin` to read.
        out: the `.bin` to write.

    Returns:
        bool (P,): the kinds, in the new order.

    Raises:
        DataError: `out` already exists, or `path` is not a verification file.
    """
    if out.exists():
        raise DataError(f"{out} already exists; delete it, or write to another file")
    found = read_pairs(path)
    order = spread_kinds(found.is_same)
    images = [found.images[2 * pair + side] for pair in order.tolist() for side in (0, 1)]
    encoded = [image if isinstance(image, bytes) else encode_png(image) for image in images]
    is_same = found.is_same[order]
    write_pairs(out, encoded, is_same.tolist())
    return is_same


def _crops_of_pairs(source: Source, pairs: np.ndarray, *, num_threads: int) -> list[bytes]:
    samples, places = np.unique(pairs, return_inverse=True)
    crops = in_threads(source.encoded, samples.tolist(), num_threads=num_threads)
    images = list(progress_bar(crops, what="reading pairs", unit="images", total=len(samples)))
    return [images[place] for place in places.reshape(-1).tolist()]


def readable_samples(source: Source, *, num_threads: int) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Reads all crops of a set once.

    Returns:
        int64 (n,): the samples that are crops; and the name of each other sample, with the reason.
    """
    reasons = in_threads(lambda index: _reason(source, index), range(len(source)), num_threads=num_threads)
    readable, rejected = [], []
    checked = progress_bar(reasons, what="checking", unit="images", total=len(source))
    for index, reason in enumerate(checked):
        if reason is None:
            readable.append(index)
        else:
            rejected.append((source.name(index), reason))
    return np.array(readable, dtype=np.int64), rejected


def write_rejected(path: Path, rejected: Iterable[tuple[str, str]]) -> None:
    """Writes a CSV with the columns path and reason."""
    with atomic_file(path) as file:
        file.write(csv_row("path", "reason"))
        for row in rejected:
            file.write(csv_row(*row))


def _reason(source: Source, index: int) -> str | None:
    try:
        source.encoded(index)
    except DataError as error:
        return str(error)
    return None
