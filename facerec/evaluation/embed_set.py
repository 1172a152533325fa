"""All images of a set, embedded into a file: memory does not grow with the set, and a second look costs nothing."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import DataError, ModelError
from facerec.core.log import LOGGER
from facerec.core.progress_bar import progress_bar
from facerec.core.protocols import Embedder
from facerec.core.source import Source
from facerec.core.threads import in_threads
from facerec.evaluation.nearest import NOT_FINITE

EMBEDDINGS_FILE, THUMBNAILS_FILE, ABOUT_FILE = "embeddings.npy", "thumbnails.npy", "embedded.json"
THUMBNAIL_PX = 16


class EmbeddedSet:
    """What is known of every image of a set.

    Attributes:
        emb_ND: float16 (N, D), of length 1; zeros for an image that cannot be read. Mapped from a file.
        thumbnails_NP: float16 (N, 256), grey 16 x 16 pixels, mean 0 and length 1; zeros for one without contrast.
        unreadable: image number -> reason.
    """

    def __init__(self, folder: Path) -> None:
        """Raises DataError where a file is missing, cut off or not of this kind."""
        try:
            about = json.loads((folder / ABOUT_FILE).read_text())
            num_images = int(about["num_images"])
            self.unreadable = {int(index): str(reason) for index, reason in about["unreadable"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{folder / ABOUT_FILE} is damaged") from None
        self.emb_ND = _mapped(folder / EMBEDDINGS_FILE, num_images)
        self.thumbnails_NP = _mapped(folder / THUMBNAILS_FILE, num_images, THUMBNAIL_PX**2)


def embed_set(
    source: Source, embed: Embedder, folder: Path, *, model: str, batch_size: int, num_threads: int
) -> EmbeddedSet:
    """Embeds a set into files in `folder`, or opens them where they are whole, of this set and of this model.

    Args:
        source: the set.
        embed: see `Embedder`.
        folder: made if absent.
        model: names the model and its weights: a digest of them.
        batch_size: images embedded at once.
        num_threads: that read and decode.

    Raises:
        DataError: no image of the set can be read, or the disk is full.
        ModelError: an embedding is not finite.
    """
    about = {"set": source.fingerprint(), "model": model, "num_images": len(source)}
    if _about(folder) == about:
        try:
            return EmbeddedSet(folder)
        except DataError as error:
            LOGGER.warning("%s: the set is embedded anew", error)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT_FILE).unlink(missing_ok=True)
    emb_ND: np.memmap | None = None
    thumbnails_NP = _new_array(folder / THUMBNAILS_FILE, (len(source), THUMBNAIL_PX**2))
    unreadable: dict[int, str] = {}
    with progress_bar(what="embedding", unit="images", total=len(source)) as bar:
        for block, images in _batches(source, batch_size=batch_size, num_threads=num_threads, unreadable=unreadable):
            if len(images):
                emb_bD = embed(np.stack(images)).astype(np.float32)
                if not np.isfinite(emb_bD).all():
                    raise ModelError(NOT_FINITE)
                emb_bD /= np.linalg.norm(emb_bD, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
                if emb_ND is None:
                    emb_ND = _new_array(folder / EMBEDDINGS_FILE, (len(source), emb_bD.shape[1]))
                emb_ND[block] = emb_bD
                thumbnails_NP[block] = [_thumbnail(image) for image in images]
            bar.update(min(batch_size, len(source) - bar.n))
    if emb_ND is None:
        reason = next(iter(unreadable.values()), "it is empty")
        raise DataError(f"no image of the set can be read: {reason}")
    emb_ND.flush()
    thumbnails_NP.flush()
    with atomic_file(folder / ABOUT_FILE) as file:
        file.write(json.dumps({**about, "unreadable": unreadable}).encode())
    return EmbeddedSet(folder)


def digest_of_weights(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """A SHA-256 over names and values."""
    digest = hashlib.sha256()
    for name, values in arrays:
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _new_array(path: Path, shape: tuple[int, int]) -> np.memmap:
    """float16, mapped to a file whose space is reserved: a disk that is full later would kill the process."""
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
    return array


def _mapped(path: Path, num_images: int, width: int | None = None) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (OSError, ValueError, EOFError):
        raise DataError(f"{path} is cut off or damaged") from None
    if array.dtype != np.float16 or array.ndim != 2 or array.shape != (num_images, width or array.shape[1]):
        raise DataError(f"{path} holds {array.dtype} {array.shape}; expected float16, a row for each image")
    return array


def _about(folder: Path) -> dict[str, object] | None:
    try:
        found = json.loads((folder / ABOUT_FILE).read_text())
        return {key: found[key] for key in ("set", "model", "num_images")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _batches(
    source: Source, *, batch_size: int, num_threads: int, unreadable: dict[int, str]
) -> Iterable[tuple[Sequence[int], list[np.ndarray]]]:
    """Numbers and images of those that can be read; the others go into `unreadable`. One batch is read ahead."""

    def read(index: int) -> np.ndarray | str:
        try:
            return source.image(index)
        except DataError as error:
            return str(error)

    images = in_threads(read, range(len(source)), num_threads=num_threads, num_ahead=batch_size)
    for start in range(0, len(source), batch_size):
        found = list(enumerate(islice(images, batch_size), start=start))
        unreadable.update({index: image for index, image in found if isinstance(image, str)})
        readable = [(index, image) for index, image in found if not isinstance(image, str)]
        yield [index for index, _ in readable], [image for _, image in readable]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """float32 (256,)."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1)
    small -= small.mean()
    length = np.linalg.norm(small)
    return small / length if length > 1 else np.zeros_like(small)
