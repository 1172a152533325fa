"""The ten-fold verification protocol of LFW, as InsightFace applies it to its `.bin` files.

embedding(image) + embedding(mirrored), L2-normalised; squared distances; contiguous folds; the threshold that is best
on all folds but one is applied to that one; mean and population standard deviation of the accuracies.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facerec.core.crop_size import size_keys
from facerec.core.errors import ConfigError, DataError, ModelError
from facerec.core.litter import files_with_suffix
from facerec.core.metric import COSINE, NUMBER, SHARE, Metric
from facerec.core.progress_bar import progress_bar
from facerec.core.protocols import Embedder
from facerec.data.pair_folds import fold_starts
from facerec.data.verification_file import Pairs, read_pairs
from facerec.evaluation.embed import flip_sum
from facerec.evaluation.roc import Roc
from facerec.processes.agreement import failing_together
from facerec.processes.group import this_process

THRESHOLDS = np.arange(0, 4, 0.01)
DEFAULT_TARGET_FARS = (1e-1, 1e-2, 1e-3, 1e-4)
_IMAGES_AT_ONCE = 512


@dataclass(frozen=True)
class FoldResult:
    """Outcome of the protocol. Letter: K folds.

    Attributes:
        accuracies_K: float64 (K,), share of right decisions in each fold.
        thresholds_K: float64 (K,), the squared distance below which a pair was accepted in each fold.
    """

    accuracies_K: np.ndarray
    thresholds_K: np.ndarray

    @property
    def accuracy(self) -> float:
        """Mean over the folds."""
        return float(self.accuracies_K.mean())

    @property
    def accuracy_std(self) -> float:
        """Population standard deviation over the folds."""
        return float(self.accuracies_K.std())

    @property
    def threshold_cosine(self) -> float:
        """The mean threshold as a cosine, 1 - d^2 / 2: pairs above it are accepted."""
        return float(1 - self.thresholds_K.mean() / 2)


def verification_files(sets: Sequence[str], *, key: str) -> list[Path]:
    """The `.bin` files that are named, and those in the folders that are.

    Args:
        sets: files and folders.
        key: where they are named, for messages.

    Raises:
        ConfigError: one is not there, holds no `.bin` file, or is a training set.
    """
    found = []
    for path in (Path(name).expanduser() for name in sets):
        if not path.exists():
            raise ConfigError(f"{key}: {path} is not there; expected a verification file (.bin), or a folder of them")
        files = files_with_suffix(path, ".bin") if path.is_dir() else [path]
        is_training_set = path.suffix in (".rec", ".idx") or (path / "train.rec").exists()
        if not files or (is_training_set and not path.is_dir()):
            what = "is a training set" if is_training_set else "holds no .bin file"
            raise ConfigError(f"{key}: {path} {what}; expected a verification file (.bin), or a folder of them")
        found += files
    return found


def fold_accuracies(squared_distances: np.ndarray, is_same: np.ndarray, *, num_folds: int = 10) -> FoldResult:
    """Accuracy fold by fold, each at the threshold that is best on the others (the lowest of equals).

    Args:
        squared_distances: (P,), between normalised embeddings: 0 .. 4.
        is_same: bool (P,).
        num_folds: contiguous folds; when P is no multiple, the first ones have one pair more.

    Raises:
        DataError: a fold would hold pairs of one kind only; the message says how many folds fit.
    """
    starts = fold_starts(is_same, num_folds)
    sizes_K = np.diff(np.append(starts, len(is_same)))
    fold_P = np.repeat(np.arange(num_folds), sizes_K)
    # Each pair is rejected up to a threshold, and accepted from there on: right for one kind, wrong for the other.
    accepted_from_P = np.searchsorted(THRESHOLDS, squared_distances, side="right")
    change_TK = np.zeros((len(THRESHOLDS) + 1, num_folds), dtype=np.int64)
    np.add.at(change_TK, (accepted_from_P, fold_P), np.where(is_same, 1, -1))
    num_negatives_K = np.add.reduceat(~is_same, starts, dtype=np.int64)
    right_TK = num_negatives_K + change_TK.cumsum(axis=0)[:-1]
    best_K = (right_TK.sum(axis=1, keepdims=True) - right_TK).argmax(axis=0)
    return FoldResult(right_TK[best_K, np.arange(num_folds)] / sizes_K, THRESHOLDS[best_K])


class VerificationBenchmark:
    """A `.bin` file of pairs as an Evaluator. The file is read on first use and kept, encoded.

    Several processes share the images and have the same figures, those of one process, to the bit.

    Args:
        path: the file; its name without `.bin` names the benchmark.
        num_folds: folds of the protocol.
        target_fars: false accept rates at which to report the TAR. None: of 1e-1 … 1e-4 those that the number of pairs
            resolves.
        size_px: height and width of the images that the model takes; None: those of the first image.

    Raises:
        ConfigError: fewer than 2 folds, or a target FAR outside 0 .. 1.
    """

    def __init__(
        self,
        *,
        path: str,
        num_folds: int = 10,
        target_fars: Sequence[float] | None = None,
        size_px: tuple[int, int] | None = None,
    ) -> None:
        if num_folds < 2:
            raise ConfigError(f"num_folds is {num_folds}; expected 2 or more")
        if target_fars is not None and not all(0 < far <= 1 for far in target_fars):
            raise ConfigError(f"target_fars is {list(target_fars)}; expected numbers above 0 and up to 1")
        self.path = Path(path).expanduser()
        self.num_folds = num_folds
        self.target_fars = target_fars
        self.size_px = size_px
        self.processes = this_process()
        self._pairs: Pairs | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def evaluate(self, embed: Embedder) -> Iterator[Metric]:
        """Yields accuracy, accuracy_std, threshold_cosine, auc, eer, and tar_at_far_1e-1 … with thresholds as cosines.

        The accuracy leads; its interval is one standard deviation over the folds to each side.

        Raises:
            DataError: the file is missing or damaged, its pairs do not fit the folds, or do not resolve a target FAR.
            ModelError: an embedding is not finite, or the model takes images of another size.
            OtherProcessError: another process has met one of these.
        """
        with failing_together(self.processes):
            pairs, targets = self._checked()
        is_same = pairs.is_same
        embeddings = self._normalised_embeddings(pairs, embed)
        squared_distances = np.square(embeddings[0::2] - embeddings[1::2]).sum(axis=1)
        folds = fold_accuracies(squared_distances, is_same, num_folds=self.num_folds)
        roc = Roc(1 - squared_distances / 2, is_same)
        mean, std = folds.accuracy, folds.accuracy_std
        yield Metric(name="accuracy", value=mean, unit=SHARE, interval=(mean - std, mean + std), is_leading=True)
        yield Metric(name="accuracy_std", value=std, unit=SHARE, higher_is_better=None)
        yield Metric(name="threshold_cosine", value=folds.threshold_cosine, unit=COSINE, higher_is_better=None)
        yield Metric(name="auc", value=roc.auc, unit=NUMBER)
        yield Metric(name="eer", value=roc.eer, unit=SHARE, higher_is_better=False)
        for far in targets:
            point, at = roc.at_far(far), f"at_far_{_short(far)}"
            yield Metric(name=f"tar_{at}", value=point.tar, unit=SHARE)
            yield Metric(name=f"threshold_{at}", value=point.threshold, unit=COSINE, higher_is_better=None)

    def check(self) -> None:
        """Reads the file, so that a damaged or unfit one is found before a training, not after its first epoch.

        Raises as `evaluate`, except for what only embedding the images, and decoding those after the first, can show.
        """
        self._images(self._checked()[0], range(1))

    def _checked(self) -> tuple[Pairs, list[float]]:
        """The pairs, and the FARs at which to report."""
        if self._pairs is None:
            self._pairs = read_pairs(self.path)
        is_same = self._pairs.is_same
        try:
            fold_starts(is_same, self.num_folds, path=self.path)
            return self._pairs, self._targets(num_negatives=int((~is_same).sum()))
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _targets(self, *, num_negatives: int) -> list[float]:
        lowest = 1 / num_negatives
        if self.target_fars is None:
            return [far for far in DEFAULT_TARGET_FARS if far >= lowest]
        unresolved = [far for far in self.target_fars if far < lowest]
        if unresolved:
            raise DataError(
                f"{num_negatives} pairs of two persons cannot measure FAR {unresolved[0]:g}; the lowest is "
                f"{lowest:.2g}. Leave it out of target_fars, or use a larger set"
            )
        return list(self.target_fars)

    def _normalised_embeddings(self, pairs: Pairs, embed: Embedder) -> np.ndarray:
        """float64 (2 P, D), of unit length. Each distinct image is embedded once, however many pairs it is in."""
        numbers, which = pairs.distinct
        starts = range(0, len(numbers), _IMAGES_AT_ONCE)
        share = math.ceil(len(starts) / self.processes.world_size)
        own_starts = starts[self.processes.rank * share : (self.processes.rank + 1) * share]
        with failing_together(self.processes):
            own = []
            blocks = [numbers[start : start + _IMAGES_AT_ONCE].tolist() for start in own_starts]
            with progress_bar(
                what=f"embedding {self.name}",
                unit="images",
                total=sum(map(len, blocks)),
                shown=self.processes.is_first,
            ) as bar:
                for block in blocks:
                    own.append(flip_sum(embed, self._images(pairs, block)))
                    bar.update(len(block))
        summed = np.concatenate([batch for part in self.processes.gather_objects(own) for batch in part])
        if not np.isfinite(summed).all():
            index = numbers[np.flatnonzero(~np.isfinite(summed).all(axis=1))[0]]
            raise ModelError(f"{self.path}, image {index}: its embedding is not finite; the model has diverged")
        lengths = np.linalg.norm(summed, axis=1, keepdims=True)
        return (summed / np.where(lengths > 0, lengths, 1.0))[which]

    def _images(self, pairs: Pairs, numbers: Iterable[int]) -> np.ndarray:
        """uint8 (B, H, W, 3): some of the images."""
        height, width = self.size_px or pairs.decode(0).shape[:2]
        images = []
        for index in numbers:
            image = pairs.decode(index)
            if image.shape[:2] != (height, width):
                found = f"{self.path}, image {index}: the image is {image.shape[0]} x {image.shape[1]} pixels"
                if self.size_px is None:
                    raise DataError(f"{found}, image 0 is {height} x {width}; expected aligned crops of one size")
                raise DataError(
                    f"{found}, but the model takes {height} x {width} ({size_keys(self.size_px)}). Make the pairs of "
                    f"crops of that size (facerec align size=[{height},{width}], then facerec pack), or train a model "
                    f"with {size_keys(image.shape[:2])}"
                )
            images.append(image)
        return np.stack(images)


def _short(far: float) -> str:
    """1e-3 for 0.001, 2.5e-2 for 0.025."""
    digits, exponent = f"{far:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
