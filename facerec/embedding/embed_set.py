"""Embeds images into a folder: memory does not grow with the set, a killed run resumes, a second run costs nothing.

Letters: N images, D embedding dimensions, P values stored beside.
"""

import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, DataError, ModelError
from facerec.core.log import LOGGER
from facerec.core.progress_bar import progress_bar
from facerec.core.protocols import Embedder, Images
from facerec.embedding.loop import EmbeddedBatch, Embeddings, Loop, nothing_readable
from facerec.processes.agreement import failing_together
from facerec.processes.group import Processes, this_process

EMBEDDINGS_FILE, ABOUT_FILE, SHARDS_FOLDER = "embeddings.npy", "embedded.json", "embedding_shards"
LOCK_FILE = ".embedding.lock"
MOST_SHARD_IMAGES, WANTED_SHARDS = 16384, 64
"""A killed process loses at most one shard: a 64th of a small set, a smaller part of a large one."""


class NamedImages(Images, Protocol):
    """`Images` with a digest that identifies them."""

    def fingerprint(self) -> str:
        """Returns a hexadecimal digest that changes when the images change."""
        ...


def embed_set(
    images: NamedImages,
    embed: Embedder,
    folder: Path,
    loop: Loop,
    *,
    described: Mapping[str, Any],
    dtype: type[np.float16] | type[np.float32] = np.float16,
    processes: Processes | None = None,
) -> Embeddings:
    """Embeds images into files in `folder`, or opens complete files of the same images and the same description.

    A killed run resumes, with any number of processes. The files do not depend on that number.

    Args:
        images: the same on all processes.
        embed: see `Embedder`.
        folder: made if absent; all processes must see it.
        loop: how to embed.
        described: what the embeddings depend on besides the images, in plain values: a model's `described()`.
        dtype: type of the stored embeddings.
        processes: the processes that share the work; None: those of torch.distributed's default group.

    Raises:
        DataError: no image can be read, or the files cannot be written.
        ModelError: an embedding is not finite.
        OtherProcessError: another process raised one of these.
    """
    processes = processes or this_process()
    about = {
        "images": images.fingerprint(),
        "num_images": len(images),
        "described": dict(described),
        "dtype": np.dtype(dtype).name,
        "mirrored": loop.mirrored,
        "unit_length": loop.unit_length,
        "beside": sorted(loop.beside),
    }
    files = _Files(
        folder, json.loads(json.dumps(about)), num_batches=loop.num_batches(images), batch_size=loop.batch_size
    )
    found = files.opened(tells=processes.is_first)
    if all(processes.gather_objects(found is not None)):
        assert found is not None
        return found
    with ExitStack() as held:
        with failing_together(processes):
            if processes.is_first:
                held.enter_context(files.held_alone())
                files.prepare_shards()
        _embed_missing(files, images, embed, loop, processes)
        with failing_together(processes):
            if processes.is_first:
                files.join_shards()
    with failing_together(processes):
        return files.open()


def _embed_missing(files: "_Files", images: NamedImages, embed: Embedder, loop: Loop, processes: Processes) -> None:
    """Writes the shards that are missing."""
    missing = processes.gather_objects(files.missing_shards())[0]
    num_missing = sum(len(files.images_of(shard)) for shard in missing)
    own = missing[processes.rank :: processes.world_size]
    numbers = [number for shard in own for number in files.shards[shard]]
    with (
        closing(loop.batches(images, embed, numbers)) as batches,
        progress_bar(what=loop.what, unit="images", total=len(images), done=len(images) - num_missing) as bar,
    ):
        for turn in range(math.ceil(len(missing) / processes.world_size)):
            with failing_together(processes):  # after each shard: an error of one process ends the work of all
                for shard in own[turn : turn + 1]:
                    parts = []
                    for batch in islice(batches, len(files.shards[shard])):
                        parts.append(batch)
                        num_done = batch.num_images * processes.world_size  # the other processes are as far
                        bar.update(min(num_done, len(images) - bar.n))
                    files.write_shard(shard, parts)


class _Files:
    """The files of one folder: shards while the work goes on, one array of each kind when it is finished.

    One process writes each shard, complete or absent: several processes never write into one file, which network file
    systems do not handle reliably.
    """

    def __init__(self, folder: Path, about: dict[str, Any], *, num_batches: int, batch_size: int) -> None:
        self.folder, self.about, self.batch_size = folder, about, batch_size
        self.num_images, self.dtype = about["num_images"], np.dtype(about["dtype"])
        size = max(1, min(math.ceil(num_batches / WANTED_SHARDS), MOST_SHARD_IMAGES // batch_size))
        self.shards = [range(start, min(start + size, num_batches)) for start in range(0, num_batches, size)]
        """The numbers of the batches of each shard."""

    def images_of(self, shard: int) -> range:
        """Returns the numbers of a shard's images."""
        batches = self.shards[shard]
        return range(batches.start * self.batch_size, min(batches.stop * self.batch_size, self.num_images))

    # Finished

    def opened(self, *, tells: bool) -> Embeddings | None:
        """Returns the finished files; None if none fit, after a warning if some are damaged."""
        stored = _read_json(self.folder / ABOUT_FILE)
        if {key: stored.get(key) for key in self.about} != self.about:
            return None
        try:
            return self.open()
        except DataError as error:
            if tells:
                LOGGER.warning("%s: the set is embedded again", error)
            return None

    def open(self) -> Embeddings:
        """Raises DataError if a file is missing, incomplete or not of this kind."""
        stored = _read_json(self.folder / ABOUT_FILE)
        try:
            unreadable = {int(index): str(reason) for index, reason in stored["unreadable"].items()}
        except (KeyError, ValueError, AttributeError):
            raise DataError(f"{self.folder / ABOUT_FILE} is damaged") from None
        return Embeddings(
            emb_ND=self._mapped(EMBEDDINGS_FILE),
            unreadable=unreadable,
            beside={name: self._mapped(f"{name}.npy") for name in self.about["beside"]},
        )

    def _mapped(self, name: str) -> np.ndarray:
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path} is missing") from None
        except (OSError, ValueError, EOFError):
            raise DataError(f"{path} is incomplete or damaged") from None
        if array.dtype != self.dtype or array.ndim != 2 or len(array) != self.num_images:
            raise DataError(f"{path} holds {array.dtype} {array.shape}; expected {self.dtype}, a row for each image")
        return array

    # Shards

    @contextmanager
    def held_alone(self) -> Iterator[None]:
        """Keeps other runs out of the folder. Raises ConfigError if one is embedding there."""
        from filelock import FileLock, Timeout

        path = self.folder / LOCK_FILE
        with _writing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path, timeout=0):
                yield
                path.unlink(missing_ok=True)
        except Timeout:
            raise ConfigError(f"{self.folder}: another process embeds there now; wait until it ends") from None

    @property
    def _shards_folder(self) -> Path:
        return self.folder / SHARDS_FOLDER

    def _shard_path(self, shard: int) -> Path:
        return self._shards_folder / f"{shard:06d}.npz"

    def prepare_shards(self) -> None:
        """Makes the folder for them. Removes shards of other embeddings, and finished files that do not fit."""
        about = {**self.about, "batch_size": self.batch_size}
        with _writing(self.folder):
            (self.folder / ABOUT_FILE).unlink(missing_ok=True)
            if _read_json(self._shards_folder / ABOUT_FILE) != about:
                shutil.rmtree(self._shards_folder, ignore_errors=True)
                self._shards_folder.mkdir()
                with atomic_file(self._shards_folder / ABOUT_FILE) as file:
                    file.write(json.dumps(about).encode())

    def missing_shards(self) -> list[int]:
        """Returns the shards that are still missing."""
        return [shard for shard in range(len(self.shards)) if not self._shard_path(shard).exists()]

    def write_shard(self, shard: int, batches: Sequence[EmbeddedBatch]) -> None:
        """Writes the rows of a shard's images, zeros for unreadable ones."""
        images = self.images_of(shard)
        with_images = [batch for batch in batches if batch.readable]
        rows = [index - images.start for batch in with_images for index in batch.readable]

        def rows_of(parts: list[np.ndarray]) -> np.ndarray:
            array = np.zeros((len(images), parts[0].shape[1] if parts else 0), dtype=self.dtype)
            if parts:
                with np.errstate(over="ignore"):
                    array[rows] = np.concatenate(parts)
                if not np.isfinite(array).all():
                    raise ModelError(f"an embedding is too large for {self.dtype}; give it length 1, or store float32")
            return array

        unreadable = {index: reason for batch in batches for index, reason in batch.unreadable.items()}
        arrays = {name: rows_of([batch.beside[name] for batch in with_images]) for name in self.about["beside"]}
        arrays["embeddings"] = rows_of([batch.emb_BD for batch in with_images])
        path = self._shard_path(shard)
        with _writing(path), atomic_file(path) as file:
            np.savez(
                file,
                unreadable=np.array(list(unreadable), dtype=np.int64),
                reasons=np.array(list(unreadable.values()), dtype=np.str_),
                **{f"of_{name}": array for name, array in arrays.items()},  # type: ignore[arg-type]
            )

    def join_shards(self) -> None:
        """Joins all shards to one array of each kind, and removes them."""
        unreadable: dict[int, str] = {}
        for stored in self._read_shards("unreadable", "reasons"):
            unreadable.update(zip(stored["unreadable"].tolist(), stored["reasons"].tolist(), strict=True))
        if len(unreadable) == self.num_images:
            raise nothing_readable(unreadable)
        for name in ("embeddings", *self.about["beside"]):
            self._join(name)
        path = self.folder / ABOUT_FILE
        with _writing(path), atomic_file(path) as file:
            file.write(json.dumps({**self.about, "unreadable": unreadable}).encode())
        shutil.rmtree(self._shards_folder, ignore_errors=True)

    def _join(self, name: str) -> None:
        width = next(width for stored in self._read_shards(f"of_{name}") if (width := stored[f"of_{name}"].shape[1]))
        path = self.folder / f"{name}.npy"
        with _writing(path), atomic_file(path) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": self.dtype.str, "fortran_order": False, "shape": (self.num_images, width)}
            )
            for stored in self._read_shards(f"of_{name}"):
                rows = stored[f"of_{name}"]
                file.write((rows if rows.size else np.zeros((len(rows), width), dtype=self.dtype)).data)

    def _read_shards(self, *names: str) -> Iterator[dict[str, np.ndarray]]:
        for shard in range(len(self.shards)):
            path = self._shard_path(shard)
            try:
                with np.load(path, allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in names}
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                path.unlink(missing_ok=True)
                raise DataError(
                    f"{path} was damaged, and is deleted; repeat the command to embed its images again"
                ) from None
            yield arrays


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be written ({error.strerror or error}). Finished embeddings stay; "
            "repeat the command to resume"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the content of the file; empty if there is none, or it is not a JSON object."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}
