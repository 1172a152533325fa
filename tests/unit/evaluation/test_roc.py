"""ROC figures against cases worked by hand and against loops that are obviously right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.core.errors import DataError
from facerec.evaluation.roc import Roc


def _naive_auc(scores: np.ndarray, is_same: np.ndarray) -> float:
    wins = [(p > n) + 0.5 * (p == n) for p in scores[is_same] for n in scores[~is_same]]
    return float(np.mean(wins))


def _naive_tar(scores: np.ndarray, is_same: np.ndarray, target: float) -> float:
    best = 0.0
    for threshold in [*scores, np.inf]:
        if np.mean(scores[~is_same] >= threshold) <= target:
            best = max(best, float(np.mean(scores[is_same] >= threshold)))
    return best


# Few distinct scores, so that ties within and between the two kinds are common.
PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({same for _, same in pairs}) == 2
)


@given(pairs=PAIRS, target=st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]))
@settings(deadline=None)
def test_auc_and_tar_agree_with_loops_over_all_pairs_and_thresholds(
    pairs: list[tuple[int, bool]], target: float
) -> None:
    scores, is_same = np.array([s / 4 for s, _ in pairs]), np.array([same for _, same in pairs])
    roc = Roc(scores, is_same)
    assert roc.auc == pytest.approx(_naive_auc(scores, is_same), abs=1e-12)
    point = roc.at_far(target)
    assert point.tar == pytest.approx(_naive_tar(scores, is_same, target), abs=1e-12)
    accepted = scores >= point.threshold
    assert point.far == np.mean(accepted[~is_same]) <= target
    assert point.tar == np.mean(accepted[is_same])
    assert point.num_false_accepts == accepted[~is_same].sum()
    assert point.is_resolved == (target * point.num_negatives >= 1 - 1e-12)


@given(pairs=PAIRS)
@settings(deadline=None)
def test_eer_lies_on_the_curve_where_both_errors_are_equal(pairs: list[tuple[int, bool]]) -> None:
    roc = Roc(np.array([s for s, _ in pairs]), np.array([same for _, same in pairs]))
    walk = np.arange(len(roc.far_T))
    fine = np.linspace(0, walk[-1], 200_001)
    far, frr = np.interp(fine, walk, roc.far_T), 1 - np.interp(fine, walk, roc.tar_T)
    assert roc.eer == pytest.approx(far[np.abs(far - frr).argmin()], abs=1e-3)


def test_case_worked_by_hand() -> None:
    # Descending: + + - + - -   thresholds .9 .8 .7 .6 .5 .4
    scores = np.array([0.9, 0.7, 0.8, 0.4, 0.6, 0.5])
    is_same = np.array([True, False, True, False, True, False])
    roc = Roc(scores, is_same)
    assert roc.auc == pytest.approx(8 / 9)
    assert roc.eer == pytest.approx(1 / 3)
    assert (roc.at_far(0.3).tar, roc.at_far(0.3).threshold, roc.at_far(0.3).far) == (2 / 3, 0.8, 0.0)
    assert not roc.at_far(0.3).is_resolved
    assert (roc.at_far(1 / 3).tar, roc.at_far(1 / 3).threshold, roc.at_far(1 / 3).num_false_accepts) == (1.0, 0.6, 1)
    assert roc.at_far(1 / 3).is_resolved
    assert roc.at_far(1.0).threshold == 0.4


def test_interpolated_eer_between_two_points() -> None:
    # All scores tie: the curve is one line from (0, 0) to (1, 1), which crosses the diagonal of equal errors at 1/2.
    assert Roc(np.zeros(5), np.array([True, True, False, False, False])).eer == pytest.approx(0.5)
    assert Roc(np.zeros(5), np.array([True, True, False, False, False])).auc == 0.5
    assert Roc(np.array([3.0, 2, 1]), np.array([True, True, False])).eer == 0.0
    assert Roc(np.array([1.0, 2, 3]), np.array([True, True, False])).eer == 1.0


def test_no_pair_is_accepted_where_an_impostor_scores_highest() -> None:
    point = Roc(np.array([0.9, 0.8, 0.1]), np.array([False, True, False])).at_far(0.25)
    assert (point.tar, point.far, point.num_false_accepts, point.num_negatives) == (0.0, 0.0, 0, 2)
    assert 0.9 < point.threshold < 0.9000001


@pytest.mark.parametrize(
    ("scores", "is_same", "message"),
    [
        ([0.1, 0.2], [True, True], "2 pairs of one person and 0 of two"),
        ([0.1, np.nan], [True, False], "pair 1 is not finite"),
        ([0.1], [True, False], "expected one of each"),
    ],
)
def test_scores_that_make_no_curve_are_refused(scores: list[float], is_same: list[bool], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Roc(np.array(scores), np.array(is_same))
    with pytest.raises(DataError, match="target FAR is 2"):
        Roc(np.array([0.1, 0.2]), np.array([True, False])).at_far(2)
