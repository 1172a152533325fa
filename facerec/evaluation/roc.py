"""ROC metrics of similarity scores: AUC, EER, and TAR at a given FAR. A pair is accepted if its score >= threshold.

TAR is the share of accepted pairs among pairs of one person, FAR among pairs of two persons.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facerec.core.errors import DataError


@dataclass(frozen=True)
class OperatingPoint:
    """The effect of a threshold on one set of pairs.

    Attributes:
        threshold: pairs with at least this score are accepted. If no pair may be accepted, it is a number just above
            the highest score.
        tar, far: true and false accept rate at this threshold.
        num_false_accepts, num_negatives: the numbers behind `far`.
        is_resolved: True if the set has enough pairs to measure the requested FAR (at least one false accept is
            allowed). Otherwise `tar` is the share of pairs above every negative.
    """

    threshold: float
    tar: float
    far: float
    num_false_accepts: int
    num_negatives: int
    is_resolved: bool


class Roc:
    """The exact ROC curve of scored pairs; pairs of equal score are accepted together.

    Args:
        scores: (P,); a higher score means more similar.
        is_same: bool (P,).

    Raises:
        DataError: a score is not finite, or one of the two kinds of pairs is missing.
    """

    def __init__(self, scores: np.ndarray, is_same: np.ndarray) -> None:
        scores, is_same = np.asarray(scores, dtype=np.float64), np.asarray(is_same, dtype=bool)
        if scores.shape != is_same.shape or scores.ndim != 1:
            raise DataError(
                f"scores have the shape {scores.shape}, is_same {is_same.shape}; expected one of each per pair"
            )
        if not np.isfinite(scores).all():
            raise DataError(f"the score of pair {np.flatnonzero(~np.isfinite(scores))[0]} is not finite")
        self.num_positives = int(is_same.sum())
        self.num_negatives = len(is_same) - self.num_positives
        if self.num_positives == 0 or self.num_negatives == 0:
            raise DataError(
                f"{self.num_positives} pairs of one person and {self.num_negatives} of two; a ROC needs both kinds"
            )
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last pair of each distinct score
        accepts = np.cumsum(is_same[order])[ends]
        # Letters: T thresholds, descending; the first accepts no pair, the last accepts all.
        self.thresholds_T = np.append(np.nextafter(ranked[0], np.inf), ranked[ends])
        self.num_true_accepts_T = np.append(0, accepts)
        self.num_false_accepts_T = np.append(0, ends + 1 - accepts)

    @cached_property
    def tar_T(self) -> np.ndarray:
        """Returns the TAR at each threshold, rising from 0 to 1: float64 (T,)."""
        return self.num_true_accepts_T / self.num_positives

    @cached_property
    def far_T(self) -> np.ndarray:
        """Returns the FAR at each threshold, rising from 0 to 1: float64 (T,)."""
        return self.num_false_accepts_T / self.num_negatives

    @property
    def auc(self) -> float:
        """Returns the probability that a pair of one person scores above a pair of two; a tie counts one half."""
        accepts_T = self.num_true_accepts_T
        area = (np.diff(self.num_false_accepts_T) * (accepts_T[1:] + accepts_T[:-1])).sum()
        return float(area / (2 * self.num_positives * self.num_negatives))

    @property
    def eer(self) -> float:
        """Returns the error rate at which FAR equals 1 - TAR, on the straight lines between the curve's points."""
        frr_T = 1 - self.tar_T
        after = int(np.argmax(self.far_T >= frr_T))
        before = after - 1  # never below 0: at the first point FAR is 0 and 1 - TAR is 1
        gap_before, gap_after = frr_T[before] - self.far_T[before], frr_T[after] - self.far_T[after]
        share = gap_before / (gap_before - gap_after)
        return float(self.far_T[before] + share * (self.far_T[after] - self.far_T[before]))

    def at_far(self, target_far: float) -> OperatingPoint:
        """Returns the largest TAR with a FAR of at most `target_far`, at the lowest threshold that reaches it.

        Raises:
            DataError: `target_far` is not within 0 .. 1.
        """
        if not 0 <= target_far <= 1:
            raise DataError(f"target FAR is {target_far}; expected a number from 0 to 1")
        row = int(np.searchsorted(self.far_T, target_far, side="right")) - 1
        return OperatingPoint(
            threshold=float(self.thresholds_T[row]),
            tar=float(self.tar_T[row]),
            far=float(self.far_T[row]),
            num_false_accepts=int(self.num_false_accepts_T[row]),
            num_negatives=self.num_negatives,
            is_resolved=target_far >= 1 / self.num_negatives,
        )
