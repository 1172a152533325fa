"""Synthetic faces: photos of people who do not exist, drawn from a seed, and stored once as a training set.

An identity sets head, eyes, brows, nose, mouth, ears, hair, skin and marks; a sample changes pose, light, expression,
hair style, accessories, background and camera. Faces are aligned and stored like those of real photos.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facerec.align.crops import align_crop
from facerec.core.cache import cache_folder
from facerec.core.crop_size import DEFAULT_SIZE_PX, asked_size
from facerec.core.errors import ConfigError, DataError
from facerec.core.progress_bar import progress_bar
from facerec.core.source import Source
from facerec.core.typed_text import typed
from facerec.data.records.recordio import write_record_set
from facerec.data.sources import RecordSource
from facerec.data.verification_file import write_pairs
from facerec.synthetic.camera import take_photo
from facerec.synthetic.drawing import Painter, paint
from facerec.synthetic.features import FaceModel
from facerec.synthetic.head_surface import HeadSurface
from facerec.synthetic.identity import Identity, Sample
from facerec.synthetic.light import HeadLight

GENERATOR_VERSION = 1  # part of the cache folder's name: raise it whenever an image changes
PHOTO_PX = 160
FIRST_TEST_IDENTITY = 1 << 30  # test identities start at this number, whatever the size of the training part
_NUM_FOLDS = 10
_FOLDER_PREFIX = "synthetic-"
_BATCH = 32


class SyntheticFaces:
    """Draws faces, as a pure function of (seed, identity, sample): any order gives the same bytes.

    Args:
        seed: selects the identities; 0 or more.
        size_px: height and width of the aligned crops.

    Raises:
        ConfigError: the seed is negative.
    """

    def __init__(self, *, seed: int = 0, size_px: tuple[int, int] = DEFAULT_SIZE_PX) -> None:
        if seed < 0:
            raise ConfigError(f"seed={seed}; expected 0 or more")
        self.seed = seed
        self.size_px = size_px
        self._current: tuple[int, FaceModel, HeadLight] | None = None

    def photo(self, identity: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one photo, uint8 (160, 160, 3) RGB, and its landmarks as a detector finds them, float64 (5, 2)."""
        (painter,) = self._photos(identity, [sample])
        return painter.image, painter.landmarks()

    def crop(self, identity: int, sample: int) -> np.ndarray:
        """Returns the photo's aligned crop before compression: uint8 (H, W, 3), RGB."""
        photo, landmarks = self.photo(identity, sample)
        return align_crop(photo, landmarks, size_px=self.size_px)

    def encoded(self, identity: int, sample: int) -> bytes:
        """Returns the crop as a JPEG file of the sample's quality."""
        return self.encoded_samples(identity, [sample])[0]

    def encoded_samples(self, identity: int, samples: Sequence[int]) -> list[bytes]:
        """Returns `encoded` for several samples of one identity, in less time than one by one."""
        painters = self._photos(identity, samples)
        crops = [align_crop(painter.image, painter.landmarks(), size_px=self.size_px) for painter in painters]
        files = []
        for painter, crop in zip(painters, crops, strict=True):
            quality = [cv2.IMWRITE_JPEG_QUALITY, painter.sample.jpeg_quality]
            files.append(cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), quality)[1].tobytes())
        return files

    def _photos(self, identity: int, samples: Sequence[int]) -> list[Painter]:
        if self._current is None or self._current[0] != identity:
            head = HeadSurface(Identity.draw(seed=self.seed, identity=identity))
            self._current = identity, FaceModel(head), HeadLight(head)
        _, face, light = self._current
        person = face.head.person
        drawn = [Sample.draw(seed=self.seed, identity=identity, sample=number, person=person) for number in samples]
        painters = paint(face, light, drawn, photo_px=PHOTO_PX)
        for painter in painters:
            painter.image = take_photo(painter.image, painter.sample, person)
        return painters


def prepare_synthetic(
    *,
    root: Path | None,
    num_train_identities: int,
    images_per_identity: int,
    num_test_identities: int,
    num_test_pairs: int,
    seed: int,
    size_px: tuple[int, int] = DEFAULT_SIZE_PX,
    progress: bool = True,
) -> Path:
    """Draws a training set and a verification set into a cache folder, unless they are already there.

    The folder is complete or absent: it is drawn under another name and renamed.

    Args:
        root: the cache folder; None: $FACEREC_CACHE, else ~/.cache/facerec.
        num_train_identities, images_per_identity: size of the training set.
        num_test_identities: identities of the verification set; none of them is trained on, and no two folds share one.
        num_test_pairs: pairs in ten contiguous folds, half of each fold of one person. No image is used twice.
        seed: chooses the identities and samples.
        size_px: height and width of the crops.
        progress: show the progress.

    Returns:
        The folder with `train.rec`, `train.idx`, `property` (InsightFace's layout) and `synthetic_test.bin`.

    Raises:
        ConfigError: numbers that do not make a set; a folder with other files in it, or a file.
        DataError: the cache folder cannot be written.
    """
    _check_sizes(num_train_identities, images_per_identity, num_test_identities, num_test_pairs, seed)
    cache = Path(root).expanduser() if root else cache_folder()
    size = f"{num_train_identities}x{images_per_identity}-test-{num_test_identities}x{num_test_pairs}"
    pixels = "" if size_px == DEFAULT_SIZE_PX else f"-{size_px[0]}x{size_px[1]}-px"
    folder = cache / f"{_FOLDER_PREFIX}v{GENERATOR_VERSION}-{size}-seed-{seed}{pixels}"
    if folder.is_dir():
        return folder
    _check_is_for_drawing(cache)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed process with this process's number
        partial.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"{cache}: synthetic faces cannot be written there ({error.strerror}); set FACEREC_CACHE, or "
            "data.root, to a folder that can be written"
        ) from None
    try:
        faces = SyntheticFaces(seed=seed, size_px=size_px)
        num_images = num_train_identities * images_per_identity + 2 * num_test_pairs
        with progress_bar(what="drawing synthetic faces", unit="images", total=num_images, shown=progress) as bar:
            train = (_batches(faces, i, range(images_per_identity), bar) for i in range(num_train_identities))
            write_record_set(partial, train, height_px=size_px[0], width_px=size_px[1])
            samples, is_same = _deal_pairs(num_test_identities, num_test_pairs, seed)
            images: list[bytes] = [b""] * len(samples)
            for identity in range(num_test_identities):
                places = np.flatnonzero(samples[:, 0] == identity)
                drawn = _batches(faces, FIRST_TEST_IDENTITY + identity, samples[places, 1].tolist(), bar)
                for place, image in zip(places.tolist(), drawn, strict=True):
                    images[place] = image
            write_pairs(partial / "synthetic_test.bin", images, is_same)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check_is_for_drawing(cache: Path) -> None:
    """Refuses a folder with other files: a user who gives their own set as data.root wants it read, not written to."""
    if cache == cache_folder() or not cache.exists():
        return
    names = sorted(path.name for path in cache.iterdir()) if cache.is_dir() else [cache.name]
    others = [name for name in names if not name.startswith(_FOLDER_PREFIX)]
    if others:
        raise ConfigError(
            f"data.root={cache} holds other files, such as {others[0]}, but data=synthetic draws faces and stores them "
            f"in data.root. To train on your own set: data=on_disk {typed('data.root', cache)}; for synthetic faces "
            "remove data.root"
        )


def _check_sizes(num_train: int, per_identity: int, num_test: int, num_pairs: int, seed: int) -> None:
    at_least = (
        ("num_train_identities", num_train, 2),
        ("images_per_identity", per_identity, 1),
        ("num_test_identities", num_test, 2 * _NUM_FOLDS),
        ("num_test_pairs", num_pairs, 2 * _NUM_FOLDS),
        ("seed", seed, 0),
    )
    for name, value, lowest in at_least:
        if value < lowest:
            raise ConfigError(f"synthetic faces: {name}={value}; expected {lowest} or more")
    if num_pairs % (2 * _NUM_FOLDS):
        raise ConfigError(
            f"synthetic faces: num_test_pairs={num_pairs}; expected a multiple of {2 * _NUM_FOLDS}, for {_NUM_FOLDS} "
            "folds with equally many pairs of one person and of two"
        )
    if num_train > FIRST_TEST_IDENTITY:
        raise ConfigError(f"synthetic faces: num_train_identities={num_train}; expected at most {FIRST_TEST_IDENTITY}")


def _batches(faces: SyntheticFaces, identity: int, samples: Sequence[int], bar: Any) -> Iterator[bytes]:
    numbers = iter(samples)
    while batch := list(islice(numbers, _BATCH)):
        yield from faces.encoded_samples(identity, batch)
        bar.update(len(batch))


def _deal_pairs(num_identities: int, num_pairs: int, seed: int) -> tuple[np.ndarray, list[bool]]:
    """Returns test identities and samples of the 2 P images, int64 (2 P, 2), and which pairs show one person, (P,)."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0xFA1D5]))
    next_sample = np.zeros(num_identities, dtype=np.int64)
    samples, is_same = [], []
    for fold in np.array_split(rng.permutation(num_identities), _NUM_FOLDS):
        for pair in range(num_pairs // _NUM_FOLDS):
            first, second = rng.choice(fold, 2, replace=False)
            is_same.append(pair % 2 == 0)
            for identity in (first, first if is_same[-1] else second):
                samples.append((identity, next_sample[identity]))
                next_sample[identity] += 1
    return np.array(samples), is_same


def _publish(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and drew the same faces
            raise


class SyntheticSource(Source):
    """The synthetic training set as a data source; drawn on first use, which takes some time.

    Args:
        root: the cache folder; None: $FACEREC_CACHE, else ~/.cache/facerec.
        num_train_identities, images_per_identity, num_test_identities, num_test_pairs, seed: see `prepare_synthetic`.
        height_px, width_px: size of the crops.

    Raises:
        ConfigError: a size is not positive.
        ConfigError, DataError: on first use, see `prepare_synthetic`.
    """

    def __init__(
        self,
        *,
        num_train_identities: int,
        images_per_identity: int,
        num_test_identities: int,
        num_test_pairs: int,
        seed: int,
        root: str | None = None,
        height_px: int | None = None,
        width_px: int | None = None,
    ) -> None:
        self._size_px = asked_size(height_px, width_px) or DEFAULT_SIZE_PX
        self._prepare = partial(
            prepare_synthetic,
            root=Path(root) if root else None,
            num_train_identities=num_train_identities,
            images_per_identity=images_per_identity,
            num_test_identities=num_test_identities,
            num_test_pairs=num_test_pairs,
            seed=seed,
            size_px=self._size_px,
        )
        self._records: RecordSource | None = None

    def _prepared(self) -> RecordSource:
        if self._records is None:
            self._records = RecordSource(root=str(self._prepare()))
        return self._records

    def __len__(self) -> int:
        return len(self._prepared())

    @property
    def num_classes(self) -> int:
        """Returns the number of identities in the training set."""
        return self._prepared().num_classes

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._prepared().labels

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width of every crop."""
        return self._size_px

    def image(self, index: int) -> np.ndarray:
        """Returns uint8 (H, W, 3), RGB."""
        return self._prepared().image(index)

    def name(self, index: int) -> str:
        """Returns file and record of a sample."""
        return self._prepared().name(index)

    def benchmarks(self) -> list[Path]:
        """Returns `synthetic_test.bin`: pairs of identities that are not in the training set."""
        return self._prepared().benchmarks()

    def fingerprint(self) -> str:
        """Returns the fingerprint of the records."""
        return self._prepared().fingerprint()
