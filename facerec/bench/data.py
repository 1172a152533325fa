"""Times what brings images to the training process: our loader and torchvision's, on the same crops, part by part."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, default_collate

from facerec.bench.pairs import Timing, alternate
from facerec.core.protocols import Source
from facerec.data.augment import Augment
from facerec.data.decode import decode_rgb, encode_jpeg
from facerec.data.loader import BatchLoader
from facerec.data.recordio import RecordReader, write_record_set
from facerec.data.sources import RecordSource

OURS, THEIRS = "facerec", "torchvision"
_ENDLESS = 1 << 40
_CPU = torch.device("cpu")


class SameCrops:
    """The first crops of a set, as a record file and as a folder of files, both in the system's memory.

    Args:
        source: the set. Crops that are not there as JPEG are encoded, at quality 95.
        num_images: of the crops.
        folder: an empty one.
    """

    def __init__(self, source: Source, *, num_images: int, folder: Path) -> None:
        self.num_images = min(num_images, len(source))
        labels = source.labels[: self.num_images]
        crops = [_encoded(source, index) for index in range(self.num_images)]
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
    """Seconds for `num_batches` batches by one worker process of either loader, in the training process's hands.

    Ours reads records, decodes, augments, and hands over uint8; torchvision's is ImageFolder with ToTensor and
    Normalize, which augments nothing and hands over float32.
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
        calls = {OURS: _taking(our_batches, num_batches), THEIRS: _taking(iter(theirs), num_batches)}
        return alternate(calls, rounds=rounds, device=_CPU)


def time_parts(
    crops: SameCrops, augment: Augment, *, batch_size: int, rounds: int
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Seconds per `batch_size` images of the parts of either loader, in this process. Returns ours and theirs."""
    reader = RecordReader(rec=crops.records / "train.rec", idx=crops.records / "train.idx")
    rows = range(1, 1 + min(batch_size, crops.num_images))
    encoded = [reader.record(row).image for row in rows]
    decoded = [decode_rgb(image, where="") for image in encoded]
    folder = _image_folder(crops.files)
    to_tensor, normalise = folder.transform.transforms
    paths = [path for path, _ in folder.samples[: len(rows)]]
    photos = [folder.loader(path) for path in paths]
    tensors = [to_tensor(photo) for photo in photos]
    ours: dict[str, Callable[[], Any]] = {
        "read": lambda: [reader.record(row) for row in rows],
        "decode": lambda: [decode_rgb(image, where="") for image in encoded],
        "augment": lambda: [augment(image, seed=0, position=i) for i, image in enumerate(decoded)],
        "batch": lambda: torch.from_numpy(np.stack(decoded)),
    }
    theirs: dict[str, Callable[[], Any]] = {
        "read": lambda: [Path(path).read_bytes() for path in paths],
        "decode": lambda: [_decoded(image) for image in encoded],
        "ToTensor": lambda: [to_tensor(photo) for photo in photos],
        "Normalize": lambda: [normalise(tensor) for tensor in tensors],
        "batch": lambda: default_collate(tensors),
    }
    together = {(name, part): call for name, parts in ((OURS, ours), (THEIRS, theirs)) for part, call in parts.items()}
    timings = alternate({f"{name} {part}": call for (name, part), call in together.items()}, rounds=rounds, device=_CPU)
    return tuple(
        {part: timings[f"{name} {part}"] for part in parts} for name, parts in ((OURS, ours), (THEIRS, theirs))
    )  # type: ignore[return-value]


def _encoded(source: Source, index: int) -> bytes:
    content = source.encoded(index) if hasattr(source, "encoded") else b""
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


def per_image_us(timings: dict[str, Timing], *, num_images: int) -> dict[str, float]:
    """Microseconds of one image: the medians, over so many images a call."""
    return {name: 1e6 * timing.median_s / num_images for name, timing in timings.items()}
