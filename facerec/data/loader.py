"""Reads, augments and batches: turns a source and a sampler into micro-batches of uint8, with any number of workers."""

import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from facerec.core.batch import Batch
from facerec.core.crop_size import check_size
from facerec.core.errors import ConfigError, DataError, FacerecError
from facerec.core.source import Source
from facerec.data.augment import Augment
from facerec.data.sampling.read_ahead import ReadAhead
from facerec.data.sampling.sampler import SampleOrder
from facerec.processes.group import ALONE, Processes

WAYS_ON = "loader.on_corrupt=skip trains without such images, facerec inspect lists them all"


@dataclass(frozen=True)
class Replaced:
    """A sample that cannot be read, and its replacement in a batch.

    Attributes:
        step: the step of the batch.
        index, by: the numbers of both samples; by is None if there is no replacement.
        reason: names the first sample and its fault.
    """

    step: int
    index: int
    by: int | None
    reason: str


class BatchLoader:
    """Yields micro-batches of the requested steps. Their content does not depend on the number of workers.

    Args:
        source: the samples.
        augment: applied to every sample, by its position in the stream; its part for the device is left to `finish`.
        global_batch_size: number of samples in one optimizer step.
        micro_batch_size: number of samples in one forward pass; divides global_batch_size.
        seed: seed of order and augmentation.
        order: how often samples occur, and in which order; None: each sample once per epoch.
        num_workers: number of processes that read; 0 reads in the training process.
        on_corrupt: what happens to an unreadable sample: "error", or "skip": the next readable image of the same
            identity replaces it, else the next readable sample of the micro-batch.
        size_px: height and width that every image must have; None: those of the batch's first image.
        processes: the processes that share every global batch, each with equally many consecutive micro-batches.

    Attributes:
        num_micro_batches: number per step, over all processes.
        own_micro_batches: the numbers of this process's micro-batches.
        replaced: the samples that were skipped since the list was last emptied.

    Raises:
        ConfigError: a size is not positive; the micro-batch does not divide the global batch, or is no multiple of
            order.images_per_identity; the processes cannot share the micro-batches evenly; another on_corrupt.
    """

    def __init__(
        self,
        *,
        source: Source,
        augment: Augment,
        global_batch_size: int,
        micro_batch_size: int,
        seed: int,
        order: SampleOrder | None = None,
        num_workers: int = 0,
        on_corrupt: str = "error",
        size_px: tuple[int, int] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        order = order or SampleOrder()
        images_per_identity = order.images_per_identity
        self.sampler = order.sampler(source, global_batch_size=global_batch_size, seed=seed)
        if micro_batch_size < 1 or global_batch_size % micro_batch_size:
            raise ConfigError(
                f"trainer.micro_batch_size={micro_batch_size} does not divide "
                f"data.global_batch_size={global_batch_size}: choose a divisor"
            )
        if images_per_identity is not None and micro_batch_size % images_per_identity:
            raise ConfigError(
                f"trainer.micro_batch_size={micro_batch_size} is not a multiple of data.images_per_identity="
                f"{images_per_identity}: an identity's images would not be in one forward pass; change one of them"
            )
        num_micro_batches = global_batch_size // micro_batch_size
        num_own, left_over = divmod(num_micro_batches, processes.world_size)
        if left_over:
            own, rest = divmod(global_batch_size, processes.world_size)
            mend = f"set trainer.micro_batch_size to {own}, or to a divisor of it"
            if rest:
                mend = f"make data.global_batch_size a multiple of {processes.world_size * micro_batch_size}"
            raise ConfigError(
                f"data.global_batch_size={global_batch_size} in micro-batches of {micro_batch_size} "
                f"(trainer.micro_batch_size) makes {num_micro_batches}, which {processes.world_size} processes cannot "
                f"share evenly: {mend}"
            )
        if num_workers < 0:
            raise ConfigError(f"loader.num_workers={num_workers}; expected 0 or more")
        if on_corrupt not in ("error", "skip"):
            raise ConfigError(f"loader.on_corrupt={on_corrupt}; expected error or skip")
        self.source = source
        self.augment = augment
        self.seed = seed
        self.order = order
        self.micro_batch_size = micro_batch_size
        self.num_micro_batches = num_micro_batches
        self.own_micro_batches = range(processes.rank * num_own, (processes.rank + 1) * num_own)
        self.num_workers = num_workers
        self.on_corrupt = on_corrupt
        self.size_px = size_px
        self.replaced: list[Replaced] = []

    def labels_of_step(self, step: int) -> np.ndarray:
        """Returns the labels of a step's samples, in order, without reading an image: int64 (global_batch_size,)."""
        return self.source.labels[self.sampler.indices(step)].astype(np.int64)

    def batches(self, *, first_step: int, end_step: int, pin_memory: bool = False) -> Generator[Batch, None, None]:
        """Yields the own micro-batches of steps first_step .. end_step - 1, in order. Raises the source's errors.

        Closing the generator ends its workers. With `pin_memory` the batches are in page-locked memory, for a GPU.
        """
        loader = DataLoader(
            _Reader(self.source, self.augment, self.seed, skips=self.on_corrupt == "skip", size_px=self.size_px),
            batch_sampler=_Requests(self, first_step, end_step),  # type: ignore[arg-type]
            collate_fn=_as_is,
            num_workers=self.num_workers,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker,
        )
        for item in loader:
            if isinstance(item, FacerecError):
                raise item
            request, images, labels, indices, replaced = item
            self.replaced += replaced
            yield Batch(
                images=images,
                labels=labels,
                indices=indices,
                step=request.step,
                micro_index=request.micro_index,
            )

    def finish(self, batch: Batch, images: torch.Tensor) -> torch.Tensor:
        """Applies the augmentations of `augment.on_device` to a batch that has reached its device.

        Args:
            batch: one of `batches`.
            images: its images, on any device.

        Returns:
            uint8 (B, H, W, 3), on the same device; `images` itself if there is nothing to do.
        """
        first = batch.micro_index * self.micro_batch_size
        positions = self.sampler.positions(batch.step)[first : first + len(batch)]
        return self.augment.on_device(images, seed=self.seed, positions=positions)


@dataclass(frozen=True)
class _Request:
    """A request to a worker: one micro-batch."""

    step: int
    micro_index: int
    indices: np.ndarray
    positions: np.ndarray


class _Requests:
    def __init__(self, loader: BatchLoader, first_step: int, end_step: int) -> None:
        self.loader, self.steps = loader, range(first_step, end_step)

    def __len__(self) -> int:
        return len(self.steps) * len(self.loader.own_micro_batches)

    def __iter__(self) -> Iterator[_Request]:
        loader, size = self.loader, self.loader.micro_batch_size
        own = slice(loader.own_micro_batches.start * size, loader.own_micro_batches.stop * size)
        with ReadAhead(loader.source, loader.sampler, loader.order, own=own) as read_ahead:
            for step in self.steps:
                read_ahead.reach(step)
                indices, positions = loader.sampler.indices(step), loader.sampler.positions(step)
                for micro_index in loader.own_micro_batches:
                    part = slice(micro_index * size, (micro_index + 1) * size)
                    yield _Request(step, micro_index, indices[part], positions[part])


_Read = tuple[_Request, torch.Tensor, torch.Tensor, torch.Tensor, list[Replaced]]


class _Reader(Dataset):
    """Reads micro-batches: returns the request, images, labels and sample numbers, and what was skipped."""

    def __init__(
        self, source: Source, augment: Augment, seed: int, *, skips: bool, size_px: tuple[int, int] | None
    ) -> None:
        self.source, self.augment, self.seed, self.skips, self.size_px = source, augment, seed, skips, size_px
        self._unreadable: dict[int, str] = {}  # number of an unreadable sample -> the reason

    def __getitems__(self, request: _Request) -> _Read | FacerecError:
        indices, images, replaced = request.indices.copy(), [], []
        try:
            for place, position in enumerate(request.positions.tolist()):
                index = int(indices[place])
                image = self._image(index)
                if image is None:
                    indices[place], image = self._next_readable(request, place)
                    replaced.append(Replaced(request.step, index, int(indices[place]), self._unreadable[index]))
                images.append(self.augment(image, seed=self.seed, position=position))
            self._check_sizes(images, indices)
        except FacerecError as error:
            return error  # raised, the DataLoader would wrap it in the worker's traceback
        labels = torch.from_numpy(self.source.labels[indices].astype(np.int64))
        return request, torch.from_numpy(np.stack(images)), labels, torch.from_numpy(indices), replaced

    def _image(self, index: int) -> np.ndarray | None:
        """Returns the sample; None if it is unreadable and must be skipped."""
        if index in self._unreadable:
            return None
        try:
            image = self.source.image(index)
            if self.size_px is not None and image.shape[:2] != self.size_px:  # some sources do not check the size
                check_size(image, where=self.source.name(index), size_px=self.size_px)
            return image
        except DataError as error:
            if not self.skips:
                raise DataError(f"{error}; {WAYS_ON}") from None
            self._unreadable[index] = str(error)
            return None

    def _next_readable(self, request: _Request, place: int) -> tuple[int, np.ndarray]:
        """Finds a sample of the same identity, by number; else of the micro-batch, whose labels the head knows."""
        index = int(request.indices[place])
        others = np.flatnonzero(self.source.labels == self.source.labels[index])
        first = int(np.searchsorted(others, index)) + 1
        in_turn = np.concatenate([others[first:], others[: first - 1], np.roll(request.indices, -place)[1:]])
        for other in in_turn.tolist():
            image = self._image(other)
            if image is not None:
                return other, image
        raise DataError(
            f"step {request.step}: none of the {len(request.indices)} samples of a micro-batch can be read, nor any "
            f"other image of their identities; the first error: {self._unreadable[index]}"
        )

    def _check_sizes(self, images: list[np.ndarray], indices: np.ndarray) -> None:
        for image, index in zip(images, indices.tolist(), strict=True):
            if image.shape != images[0].shape or image.dtype != np.uint8:
                raise DataError(
                    f"{self.source.name(index)}: the image is {image.dtype} {image.shape}, another one of the batch is "
                    f"{images[0].shape}; expected uint8 crops of one size: align the photos first"
                )


def _as_is(item: object) -> object:
    return item


def _start_worker(_worker_id: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    # A terminal's Ctrl-C and a scheduler's SIGTERM and SIGUSR1 reach all processes. The training process handles them,
    # and needs batches until it has done so. A second SIGTERM to a worker comes from the training process, for a worker
    # that does not end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: signal.signal(number, signal.SIG_DFL))
