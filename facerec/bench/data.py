"""Times the loading of images: our loader and torchvision's, on the same crops, stage by stage."""

import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, default_collate

from facerec.align.photo_reader import decode_rgb, encode_jpeg
from facerec.bench.alternation import Timing, alternate
from facerec.core.progress_bar import progress_bar
from facerec.core.source import Source
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.data.records.recordio import RecordReader, write_record_set
from facerec.data.sources import RecordSource

OURS, THEIRS = "facerec", "torchvision"
_ENDLESS = 1 << 40
_AHEAD = 3
"""Number of batches that a worker has made, or begun, while the other loader was timed."""
_CPU = torch.device("cpu")
_Steps = dict[str, Callable[[Any], Any]]


class SameCrops:
    """The first crops of a set, as a record file and as a folder of files, both in the system's memory.

    Args:
        source: the set. Crops that are not JPEG files are encoded, with quality 95.
        num_images: number of crops.
        folder: an empty folder.
    """

    def __init__(self, source: Source, *, num_images: int, folder: Path) -> None:
        self.num_images = min(num_images, len(source))
        labels = source.labels[: self.num_images]
        numbers = progress_bar(range(self.num_images), what="reading crops", unit="images")
        crops = [_encoded(source, index) for index in numbers]
        self.records, self.files = folder / "records", folder / "files"
        by_identity = [[crops[i] for i in np.flatnonzero(labels == label)] for label in np.unique(labels)]
        height_px, width_px = source.image(0).shape[:2]
        write_record_set(self.records, by_identity, height_px=height_px, width_px=width_px)
        for number, identity in enumerate(by_identity):
            (self.files / f"{number:06d}").mkdir(parents=True)
            for image, crop in enumerate(identity):
                (self.files / f"{number:06d}" / f"{image:06d}.jpg").write_bytes(crop)


def time_loaders(
    crops: SameCrops, augment: Augment, *, batch_size: int, num_batches: int, rounds: int
) -> dict[str, Timing]:
    """Seconds in which one worker process of either loader delivers `num_batches` batches to the training process.

    Ours reads records, decodes, augments, and delivers uint8; torchvision's is ImageFolder with ToTensor and
    Normalize, which does not augment and delivers float32.
    """
    ours = BatchLoader(
        source=RecordSource(root=str(crops.records)),
        augment=augment,
        global_batch_size=batch_size,
        micro_batch_size=batch_size,
        seed=0,
        num_workers=1,
    )
    folder = _image_folder(crops.files)
    theirs = DataLoader(
        folder,
        batch_size=batch_size,
        sampler=RandomSampler(folder, num_samples=_ENDLESS, replacement=True),
        num_workers=1,
    )
    with ExitStack() as held:
        our_batches = ours.batches(first_step=0, end_step=_ENDLESS)
        held.callback(our_batches.close)
        streams: dict[str, Iterator[Any]] = {OURS: our_batches, THEIRS: iter(theirs)}
        return alternate(
            {name: _taking(stream, num_batches) for name, stream in streams.items()},
            before={name: _taking(stream, _AHEAD) for name, stream in streams.items()},
            rounds=rounds,
            device=_CPU,
        )


def time_parts(
    crops: SameCrops, augment: Augment, *, batch_size: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds per batch of each part of both loaders, in this process; ours and theirs.

    Each image goes through all parts before the next one, as in a worker. The values are medians of alternating rounds.
    """
    reader = RecordReader(rec=crops.records / "train.rec", idx=crops.records / "train.idx")
    rows = range(1, 1 + min(batch_size, crops.num_images))
    folder = _image_folder(crops.files)
    to_tensor, normalise = folder.transform.transforms
    paths = [Path(path) for path, _ in folder.samples[: len(rows)]]
    ours: _Steps = {
        "read": lambda row: reader.record(row).image,
        "decode": lambda encoded: decode_rgb(encoded, where=""),
        "augment": lambda image: augment(image, seed=0, position=0),
    }
    theirs: _Steps = {"read": Path.read_bytes, "decode": _decoded, "ToTensor": to_tensor, "Normalize": normalise}
    found: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in progress_bar(range(1 + rounds), what="timing the parts", unit="rounds"):
        found[0].append(_time_steps(ours, rows, batch=lambda images: torch.from_numpy(np.stack(images))))
        found[1].append(_time_steps(theirs, paths, batch=default_collate))
    medians = [{part: statistics.median(one[part] for one in kept[1:]) for part in kept[0]} for kept in found]
    return medians[0], medians[1]


def _time_steps(steps: _Steps, values: Iterable[Any], *, batch: Callable[[list[Any]], Any]) -> dict[str, float]:
    seconds = dict.fromkeys(steps, 0.0)
    images = []
    for value in values:
        for name, step in steps.items():
            start = time.perf_counter()
            value = step(value)
            seconds[name] += time.perf_counter() - start
        images.append(value)
    start = time.perf_counter()
    batch(images)
    return {**seconds, "batch": time.perf_counter() - start}


def _encoded(source: Source, index: int) -> bytes:
    content = source.encoded(index)
    return content if content.startswith(b"\xff\xd8") else encode_jpeg(source.image(index))


def _image_folder(root: Path) -> Any:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    return ImageFolder(
        str(root), transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    )


def _decoded(encoded: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert("RGB")


def _taking(batches: Iterator[Any], num_batches: int) -> Callable[[], None]:
    def take() -> None:
        for _ in islice(batches, num_batches):
            pass

    return take
