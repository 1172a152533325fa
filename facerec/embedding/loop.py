"""The one loop that embeds many images: fixed batches, shared between processes, read ahead by several threads.

Letters: N images, B readable images of a batch, D embedding dimensions.
"""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from facerec.core.errors import DataError, ModelError
from facerec.core.progress_bar import progress_bar
from facerec.core.protocols import Embedder, Images, StreamingEmbedder
from facerec.core.threads import in_threads, num_own_cores
from facerec.processes.agreement import failing_together
from facerec.processes.group import Processes, this_process

Beside = Mapping[str, Callable[[np.ndarray], np.ndarray]]
"""An additional result per image: its name, and a function from the image's pixels to float (P,)."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedBatch:
    """One batch, embedded.

    Attributes:
        num_images: number of images in the batch, readable or not.
        readable: the numbers of the B readable images, ascending.
        unreadable: the numbers of the others, with the reasons.
        emb_BD: float32; (0, 0) if no image is readable.
        beside: name -> float32 (B, P), see `Beside`.
    """

    num_images: int
    readable: list[int]
    unreadable: dict[int, str]
    emb_BD: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    beside: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How to embed. The embeddings depend only on the images, the embedder and the batch size.

    Args:
        batch_size: number of images in one call of the embedder. Unreadable images are left out of their batch.
        num_threads: number of threads that read and decode, in each process; None: one for each of its cores.
        mirrored: append to each image's embedding that of its mirror image, (B, 2 D).
        unit_length: normalise every embedding, in float32; zeros stay zeros.
        stops_at_unreadable: raise DataError for the first unreadable image, instead of listing it.
        way_on: what a user can do about such an image, for the message.
        what: names the work, for the progress bar.
        beside: additional results per image.
    """

    batch_size: int
    num_threads: int | None = None
    mirrored: bool = False
    unit_length: bool = False
    stops_at_unreadable: bool = False
    way_on: str = ""
    what: str = "embedding"
    beside: Beside = field(default_factory=dict)

    def batches(self, images: Images, embed: Embedder, numbers: Iterable[int]) -> Generator[EmbeddedBatch, None, None]:
        """Yields batches by their numbers, in this process only: images k * batch_size ... of batch k.

        Raises:
            DataError: an image cannot be read, and `stops_at_unreadable`; or images of one batch differ in size.
            ModelError: an embedding is not finite, or the model takes images of another size.
        """
        spans = [range(k * self.batch_size, min((k + 1) * self.batch_size, len(images))) for k in numbers]
        num_threads = self.num_threads or num_own_cores()
        read = in_threads(
            lambda index: self._read(images, index),
            (index for span in spans for index in span),
            num_threads=num_threads,
            num_ahead=max(self.batch_size, 4 * num_threads),
        )
        pending: deque[EmbeddedBatch] = deque()

        def pixels() -> Iterator[np.ndarray]:
            for span in spans:
                batch, images_BHWC = self._batch(images, span, list(islice(read, len(span))))
                pending.append(batch)
                if images_BHWC is not None:
                    yield images_BHWC
                    if self.mirrored:
                        yield np.ascontiguousarray(images_BHWC[:, :, ::-1])

        embedded = embed.stream(pixels()) if isinstance(embed, StreamingEmbedder) else map(embed, pixels())
        for emb_BD in embedded:
            yield from _without_images(pending)
            if self.mirrored:
                emb_BD = np.concatenate([emb_BD, next(embedded)], axis=1)
            batch = pending.popleft()
            yield self._finished(images, batch, emb_BD)
        yield from _without_images(pending)

    def num_batches(self, images: Images) -> int:
        """Returns the number of batches."""
        return math.ceil(len(images) / self.batch_size)

    def _read(self, images: Images, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]] | str:
        try:
            image = images.image(index)
        except DataError as error:
            if self.stops_at_unreadable:
                raise DataError(f"{error}{self.way_on and '; '}{self.way_on}") from None
            return str(error)
        return image, {name: of_image(image) for name, of_image in self.beside.items()}

    def _batch(
        self, images: Images, span: range, found: list[tuple[np.ndarray, dict[str, np.ndarray]] | str]
    ) -> tuple[EmbeddedBatch, np.ndarray | None]:
        """Returns the batch without its embeddings, and its pixels; None for the pixels if no image is readable."""
        readable = [(index, item) for index, item in zip(span, found, strict=True) if not isinstance(item, str)]
        batch = EmbeddedBatch(
            num_images=len(span),
            readable=[index for index, _ in readable],
            unreadable={index: item for index, item in zip(span, found, strict=True) if isinstance(item, str)},
        )
        if not readable:
            return batch, None
        first = readable[0][1][0]
        for index, (image, _) in readable:
            if image.shape != first.shape:
                raise DataError(
                    f"{images.name(index)}: the image is {image.shape}, {images.name(readable[0][0])} is "
                    f"{first.shape}; expected crops of one size: align the photos first (facerec align)"
                )
        for name in self.beside:
            batch.beside[name] = np.stack([beside[name] for _, (_, beside) in readable])
        return batch, np.stack([image for _, (image, _) in readable])

    def _finished(self, images: Images, batch: EmbeddedBatch, emb_BD: np.ndarray) -> EmbeddedBatch:
        emb_BD = emb_BD.astype(np.float32, copy=False)
        is_finite_B = np.isfinite(emb_BD).all(axis=1)
        if not is_finite_B.all():
            name = images.name(batch.readable[int(is_finite_B.argmin())])
            raise ModelError(f"{name}: its embedding is not finite; the model has diverged, use an earlier checkpoint")
        if self.unit_length:
            emb_BD = emb_BD / np.linalg.norm(emb_BD, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
        return EmbeddedBatch(**{**vars(batch), "emb_BD": emb_BD})


def _without_images(pending: deque[EmbeddedBatch]) -> Iterator[EmbeddedBatch]:
    """Yields the batches at the head of the queue without a readable image: there is nothing to wait for."""
    while pending and not pending[0].readable:
        yield pending.popleft()


def embed_in_order(
    images: Images, embed: Embedder, loop: Loop, *, processes: Processes | None = None
) -> Iterator[EmbeddedBatch]:
    """Yields all batches in order, on all processes, which embed one batch each at a time. Nothing is stored.

    Args:
        images: the same on all processes.
        embed: see `Embedder`.
        loop: how to embed.
        processes: the processes that share the work; None: those of torch.distributed's default group.

    Raises:
        DataError, ModelError: see `Loop.batches`.
        OtherProcessError: another process raised one of these.
    """
    processes = processes or this_process()
    num_batches, world_size = loop.num_batches(images), processes.world_size
    numbers = range(processes.rank, num_batches, world_size)
    with (
        closing(loop.batches(images, embed, numbers)) as own,
        progress_bar(what=loop.what, unit="images", total=len(images), shown=processes.is_first) as bar,
    ):
        for _ in range(math.ceil(num_batches / world_size)):
            with failing_together(processes):
                batch = next(own, None)
            for each in processes.gather_objects(batch):
                if each is not None:
                    bar.update(each.num_images)
                    yield each


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of many images.

    Attributes:
        emb_ND: float32 or float16, mapped from a file; zeros for an unreadable image.
        unreadable: image number -> reason.
        beside: name -> (N, P), of the same type, mapped from files; zeros for an unreadable image.
    """

    emb_ND: np.ndarray
    unreadable: dict[int, str]
    beside: dict[str, np.ndarray] = field(default_factory=dict)


def embed_for_now(images: Images, embed: Embedder, loop: Loop, *, processes: Processes | None = None) -> Embeddings:
    """Embeds all images into a temporary float32 file, which is deleted with the array.

    Args:
        images, embed, loop, processes: see `embed_in_order`. Additional results are not stored.

    Raises:
        As `embed_in_order`; DataError also if no image is readable, or the folder of temporary files is full.
    """
    processes = processes or this_process()
    emb_ND: np.ndarray | None = None
    unreadable: dict[int, str] = {}
    for batch in embed_in_order(images, embed, loop, processes=processes):
        unreadable.update(batch.unreadable)
        if batch.readable:
            if emb_ND is None:
                with failing_together(processes):
                    emb_ND = _temporary_array((len(images), batch.emb_BD.shape[1]))
            emb_ND[batch.readable] = batch.emb_BD
    if emb_ND is None:
        raise nothing_readable(unreadable)
    return Embeddings(emb_ND=emb_ND, unreadable=unreadable)


def nothing_readable(unreadable: Mapping[int, str]) -> DataError:
    """Returns the error for images of which none is readable."""
    return DataError(f"no image of the set can be read: {next(iter(unreadable.values()), 'it is empty')}")


def _temporary_array(shape: tuple[int, int]) -> np.ndarray:
    """Maps float32 to a file without a name, with reserved space: a full disk would kill the process later."""
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            array: Any = np.memmap(
                file, dtype=np.float32, mode="r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape
            )
            return array
    except OSError as error:
        raise DataError(
            f"{size / 1e9:.2f} GB of embeddings cannot be written to the folder of temporary files "
            f"({error.strerror}); free space in {os.environ.get('TMPDIR', '/tmp')}, or set TMPDIR to another folder"
        ) from None
