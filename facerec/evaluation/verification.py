"""The ten-fold verification protocol of LFW, as InsightFace applies it to its `.bin` files.

The embedding of an image is embedding(image) + embedding(mirrored), L2-normalised. Pairs are compared by squared
distances, in contiguous folds. The threshold that is best on all other folds is applied to each fold. The results are
mean and population standard deviation of the accuracies.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from facerec.core.errors import ConfigError, DataError
from facerec.core.litter import files_with_suffix
from facerec.core.metric import COSINE, NUMBER, SHARE, Metric
from facerec.core.protocols import Embedder
from facerec.data.pair_folds import fold_starts
from facerec.data.pair_images import PairImages
from facerec.data.verification_file import Pairs, read_pairs
from facerec.embedding.loop import Loop, embed_for_now
from facerec.evaluation.roc import Roc
from facerec.evaluation.unbalanced import BALANCED_ACCURACY, constant_answer, unbalanced_pairs
from facerec.processes.agreement import failing_together
from facerec.processes.group import this_process

THRESHOLDS = np.arange(0, 4, 0.01)
DEFAULT_TARGET_FARS = (1e-1, 1e-2, 1e-3, 1e-4)
_IMAGES_AT_ONCE = 512


@dataclass(frozen=True)
class FoldResult:
    """The result of the protocol. Letter: K folds.

    Attributes:
        accuracies_K: float64 (K,), share of right decisions in each fold.
        thresholds_K: float64 (K,), the squared distance below which a pair is accepted in each fold.
    """

    accuracies_K: np.ndarray
    thresholds_K: np.ndarray

    @property
    def accuracy(self) -> float:
        """Returns the mean over the folds."""
        return float(self.accuracies_K.mean())

    @property
    def accuracy_std(self) -> float:
        """Returns the population standard deviation over the folds."""
        return float(self.accuracies_K.std())

    @property
    def threshold_cosine(self) -> float:
        """Returns the mean threshold as a cosine, 1 - d^2 / 2: pairs above it are accepted."""
        return float(1 - self.thresholds_K.mean() / 2)


def verification_files(sets: Sequence[str], *, key: str) -> list[Path]:
    """Returns the given `.bin` files, and those in the given folders.

    Args:
        sets: files and folders.
        key: the key that gives them, for messages.

    Raises:
        ConfigError: a path does not exist, has no `.bin` file, or is a training set.
    """
    found = []
    for path in (Path(name).expanduser() for name in sets):
        if not path.exists():
            raise ConfigError(f"{key}: {path} does not exist; expected a verification file (.bin), or a folder of them")
        files = files_with_suffix(path, ".bin") if path.is_dir() else [path]
        is_training_set = path.suffix in (".rec", ".idx") or (path / "train.rec").exists()
        if not files or (is_training_set and not path.is_dir()):
            what = "is a training set" if is_training_set else "holds no .bin file"
            raise ConfigError(f"{key}: {path} {what}; expected a verification file (.bin), or a folder of them")
        found += files
    return found


def fold_accuracies(
    squared_distances: np.ndarray, is_same: np.ndarray, *, num_folds: int = 10, balanced: bool = False
) -> FoldResult:
    """Computes the accuracy of each fold, at the threshold that is best on the other folds (the lowest of equals).

    Args:
        squared_distances: (P,), between normalised embeddings: 0 .. 4.
        is_same: bool (P,).
        num_folds: contiguous folds; if P is not a multiple, the first folds have one pair more.
        balanced: both kinds of pairs count equally, whatever their numbers: the accuracy of a fold is the mean of its
            shares of right decisions on pairs of one person and on pairs of two.

    Raises:
        DataError: a fold would hold pairs of one kind only; the message says how many folds fit.
    """
    starts = fold_starts(is_same, num_folds)
    sizes_K = np.diff(np.append(starts, len(is_same)))
    fold_P = np.repeat(np.arange(num_folds), sizes_K)
    # Each pair is rejected up to a threshold, and accepted above it: right for one kind, wrong for the other.
    accepted_from_P = np.searchsorted(THRESHOLDS, squared_distances, side="right")
    change_STK = np.zeros((2, len(THRESHOLDS) + 1, num_folds), dtype=np.int64)  # S: pairs of one person, of two
    np.add.at(change_STK, (np.where(is_same, 0, 1), accepted_from_P, fold_P), np.where(is_same, 1, -1))
    num_negatives_K = np.add.reduceat(~is_same, starts, dtype=np.int64)
    right_STK = change_STK.cumsum(axis=1)[:, :-1]
    right_STK[1] += num_negatives_K
    num_SK = np.stack([sizes_K - num_negatives_K, num_negatives_K])
    others_STK = right_STK.sum(axis=2, keepdims=True) - right_STK
    if balanced:  # in whole numbers, so that equals are equal: right / all + right / all, times both numbers of all
        others_STK = others_STK * (num_SK.sum(axis=1, keepdims=True) - num_SK)[::-1, None]
    best_K = others_STK.sum(axis=0).argmax(axis=0)
    right_SK = right_STK[:, best_K, np.arange(num_folds)]
    accuracies_K = (right_SK / num_SK).mean(axis=0) if balanced else right_SK.sum(axis=0) / sizes_K
    return FoldResult(accuracies_K, THRESHOLDS[best_K])


def verification_metrics(
    is_same: ArrayLike,
    *,
    embeddings: tuple[ArrayLike, ArrayLike] | None = None,
    scores: ArrayLike | None = None,
    num_folds: int = 10,
    target_fars: Sequence[float] | None = None,
) -> list[Metric]:
    """Computes the protocol on arrays: what `VerificationBenchmark.evaluate` yields for a `.bin` file.

    Args:
        is_same: bool (P,), True for pairs of one person.
        embeddings: those of the first and of the second images of the pairs, each (P, D), of any length.
        scores: instead of embeddings, (P,), the cosines of the pairs. For scores of another kind use `Roc`, which only
            compares them.
        num_folds: contiguous folds; shuffle the pairs before if they are sorted by kind.
        target_fars: see `VerificationBenchmark`.

    Raises:
        ConfigError: embeddings and scores are both given, or neither; a number is out of range.
        DataError: the arrays have other shapes or values, or the pairs do not fit the folds or resolve a target FAR.
    """
    _check_protocol(num_folds, target_fars)
    kinds_P = np.asarray(is_same)
    if kinds_P.ndim != 1 or (kinds_P.dtype != bool and not np.isin(kinds_P, (0, 1)).all()):
        raise DataError(f"is_same is {kinds_P.dtype} {kinds_P.shape}; expected true or false for each pair")
    kinds_P = kinds_P.astype(bool)
    if (embeddings is None) == (scores is None):
        raise ConfigError("give either embeddings=(first, second) or scores=..., the cosines of the pairs")
    if embeddings is not None:
        squared_P = _squared_distances(*embeddings)
    else:
        cos_P = np.asarray(scores, dtype=np.float64)
        if not (np.abs(cos_P) <= 1 + 1e-6).all():
            raise DataError(
                f"scores are from {cos_P.min():.4g} to {cos_P.max():.4g}; expected cosines, -1 to 1. For scores of "
                "another kind, Roc(scores, is_same) has AUC, EER and TAR"
            )
        squared_P = 2 - 2 * cos_P
    if squared_P.shape != kinds_P.shape:
        raise DataError(f"{squared_P.shape} pairs, but is_same is {kinds_P.shape}; expected one answer per pair")
    fold_starts(kinds_P, num_folds)
    targets = _targets(target_fars, num_negatives=int((~kinds_P).sum()))
    return list(_metrics(squared_P, kinds_P, num_folds=num_folds, targets=targets))


def _squared_distances(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Returns the squared distances of normalised embeddings: float64 (P,), 0 .. 4."""
    first_PD, second_PD = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first_PD.shape != second_PD.shape or first_PD.ndim != 2:
        raise DataError(f"embeddings of shapes {first_PD.shape} and {second_PD.shape}; expected two of the same (P, D)")
    lengths = [np.linalg.norm(emb_PD, axis=1, keepdims=True) for emb_PD in (first_PD, second_PD)]
    for which, lengths_P1 in zip(("first", "second"), lengths, strict=True):
        if not (np.isfinite(lengths_P1) & (lengths_P1 > 0)).all():
            pair = int(np.flatnonzero(~(np.isfinite(lengths_P1) & (lengths_P1 > 0)))[0])
            raise DataError(f"the {which} embedding of pair {pair} is zero or not finite")
    return np.square(first_PD / lengths[0] - second_PD / lengths[1]).sum(axis=1)


def _metrics(
    squared_distances: np.ndarray, is_same: np.ndarray, *, num_folds: int, targets: Sequence[float]
) -> Iterator[Metric]:
    """Yields the metrics of `VerificationBenchmark.evaluate`."""
    folds = fold_accuracies(squared_distances, is_same, num_folds=num_folds)
    roc = Roc(1 - squared_distances / 2, is_same)
    mean, std = folds.accuracy, folds.accuracy_std
    yield Metric(name="accuracy", value=mean, unit=SHARE, interval=(mean - std, mean + std), is_leading=True)
    yield Metric(name="accuracy_std", value=std, unit=SHARE, higher_is_better=None)
    yield Metric(name="threshold_cosine", value=folds.threshold_cosine, unit=COSINE, higher_is_better=None)
    yield Metric(name="auc", value=roc.auc, unit=NUMBER)
    yield Metric(name="eer", value=roc.eer, unit=SHARE, higher_is_better=False)
    if constant := constant_answer(is_same):
        fair = fold_accuracies(squared_distances, is_same, num_folds=num_folds, balanced=True)
        mean, std = fair.accuracy, fair.accuracy_std
        yield Metric(name=BALANCED_ACCURACY, value=mean, unit=SHARE, interval=(mean - std, mean + std))
        yield constant.metric()
    for far in targets:
        point, at = roc.at_far(far), f"at_far_{_short(far)}"
        yield Metric(name=f"tar_{at}", value=point.tar, unit=SHARE)
        yield Metric(name=f"threshold_{at}", value=point.threshold, unit=COSINE, higher_is_better=None)


def _check_protocol(num_folds: int, target_fars: Sequence[float] | None) -> None:
    if num_folds < 2:
        raise ConfigError(f"num_folds is {num_folds}; expected 2 or more")
    if target_fars is not None and not all(0 < far <= 1 for far in target_fars):
        raise ConfigError(f"target_fars is {list(target_fars)}; expected numbers above 0 and up to 1")


def _targets(target_fars: Sequence[float] | None, *, num_negatives: int) -> list[float]:
    """Returns the FARs to report. Raises DataError for one that the pairs cannot resolve."""
    lowest = 1 / num_negatives
    if target_fars is None:
        return [far for far in DEFAULT_TARGET_FARS if far >= lowest]
    unresolved = [far for far in target_fars if far < lowest]
    if unresolved:
        needed = math.ceil(1 / min(unresolved) - 1e-9)
        raise DataError(
            f"{num_negatives} pairs of two persons cannot measure FAR {unresolved[0]:g}; the lowest is "
            f"{lowest:.2g}. Remove it from target_fars, or make a set with more such pairs: facerec "
            f"pack draws just enough with pairs=auto auto_pairs.num_negative={needed}; ten times as many make the "
            "rate stable"
        )
    return list(target_fars)


class VerificationBenchmark:
    """A `.bin` file of pairs as an Evaluator. The file is read on first use and kept in memory, encoded.

    Several processes share the images, and get the metrics of one process, to the bit.

    Args:
        path: the file; its name without `.bin` names the benchmark.
        num_folds: folds of the protocol.
        target_fars: false accept rates at which to report the TAR. None: those of 1e-1 … 1e-4 that the number of pairs
            resolves.
        size_px: height and width of the model's input; None: those of the first image.

    Raises:
        ConfigError: there are fewer than 2 folds, or a target FAR is outside 0 .. 1.
    """

    def __init__(
        self,
        *,
        path: str,
        num_folds: int = 10,
        target_fars: Sequence[float] | None = None,
        size_px: tuple[int, int] | None = None,
    ) -> None:
        _check_protocol(num_folds, target_fars)
        self.path = Path(path).expanduser()
        self.num_folds = num_folds
        self.target_fars = target_fars
        self.size_px = size_px
        self._pairs: Pairs | None = None

    @property
    def name(self) -> str:
        """Returns the file's name without its suffix."""
        return self.path.stem

    def evaluate(self, embed: Embedder) -> Iterator[Metric]:
        """Yields accuracy, accuracy_std, threshold_cosine, auc, eer, and tar_at_far_1e-1 … with thresholds as cosines.

        The accuracy is the leading metric; its interval is one standard deviation over the folds to each side. For
        unbalanced pairs (see `constant_answer`), balanced_accuracy and the accuracy of a constant answer follow eer.

        Raises:
            DataError: the file is missing or damaged, or its pairs do not fit the folds or resolve a target FAR.
            ModelError: an embedding is not finite, or the model takes images of another size.
            OtherProcessError: another process raised one of these.
        """
        with failing_together(this_process()):
            pairs, targets = self._checked()
        is_same = pairs.is_same
        embeddings = self._normalised_embeddings(pairs, embed)
        squared_distances = np.square(embeddings[0::2] - embeddings[1::2]).sum(axis=1)
        yield from _metrics(squared_distances, is_same, num_folds=self.num_folds, targets=targets)

    @property
    def metric_names(self) -> list[str]:
        """Returns the names of the metrics of which one direction is better. Reads the file, and raises as `check`."""
        pairs, targets = self._checked()
        balanced = [BALANCED_ACCURACY] if constant_answer(pairs.is_same) else []
        return ["accuracy", "auc", "eer", *balanced, *(f"tar_at_far_{_short(far)}" for far in targets)]

    def pairs_warning(self) -> str | None:
        """Returns a warning if the pairs are unbalanced (see `unbalanced_pairs`), else None. Reads the file."""
        return unbalanced_pairs(self.name, self._checked()[0].is_same)

    def check(self) -> None:
        """Reads the file, so that a damaged or unsuitable one is found before a training, not after its first epoch.

        Raises as `evaluate`, except for faults that show only when images are embedded, or decoded after the first.
        """
        PairImages(self._checked()[0], size_px=self.size_px).image(0)

    def _checked(self) -> tuple[Pairs, list[float]]:
        """Returns the pairs, and the FARs to report."""
        if self._pairs is None:
            self._pairs = read_pairs(self.path)
        is_same = self._pairs.is_same
        try:
            fold_starts(is_same, self.num_folds, path=self.path)
            return self._pairs, _targets(self.target_fars, num_negatives=int((~is_same).sum()))
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _normalised_embeddings(self, pairs: Pairs, embed: Embedder) -> np.ndarray:
        """Embeds each distinct image once, whatever the number of its pairs: float64 (2 P, D), of unit norm."""
        numbers, which = pairs.distinct
        loop = Loop(
            batch_size=_IMAGES_AT_ONCE,
            mirrored=True,
            stops_at_unreadable=True,
            what=f"embedding {self.name}",
        )
        images = PairImages(pairs, numbers=numbers, size_px=self.size_px)
        embedded = embed_for_now(images, embed, loop)
        upright, mirrored = np.split(embedded.emb_ND, 2, axis=1)
        summed = upright.astype(np.float64) + mirrored
        lengths = np.linalg.norm(summed, axis=1, keepdims=True)
        return (summed / np.where(lengths > 0, lengths, 1.0))[which]


def _short(far: float) -> str:
    """Returns 1e-3 for 0.001, 2.5e-2 for 0.025."""
    digits, exponent = f"{far:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
