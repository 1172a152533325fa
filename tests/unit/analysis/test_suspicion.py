"""The mixture: what is out of line is found at the rate at which it was put there, and nothing where nothing was."""

import numpy as np
import pytest

from facerec.analysis.suspicion import posterior_wrong


def drawn(num_usual: int, num_wrong: int, *, sign: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    observed = np.concatenate([rng.normal(0.6, 0.1, num_usual), rng.normal(0.1, 0.1, num_wrong)])
    is_wrong = np.arange(len(observed)) >= num_usual
    return sign * observed, sign * rng.normal(0.1, 0.1, 2000), is_wrong


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("share", [0.005, 0.03, 0.2])
def test_posterior_is_bayes_s(share, sign):
    num_wrong = int(20_000 * share)
    observed, wrong, is_wrong = drawn(20_000 - num_wrong, num_wrong, sign=sign)
    posterior = posterior_wrong(observed, wrong)
    assert posterior.sum() == pytest.approx(num_wrong, rel=0.1, abs=5)
    bells = (((sign * observed - 0.6) / 0.1) ** 2 - ((sign * observed - 0.1) / 0.1) ** 2) / 2
    odds = share / (1 - share) * np.exp(bells)
    expected = odds / (1 + odds)
    between = (sign * observed > 0.1) & (sign * observed < 0.6)
    assert np.abs(posterior - expected)[between].max() < 0.12 and np.abs(posterior - expected)[between].mean() < 0.005
    flagged = posterior > 0.5
    assert is_wrong[flagged].mean() > 0.95 and flagged[is_wrong].mean() > 0.85


def test_beyond_both_means_it_is_as_certain_as_at_them():
    observed, wrong, _ = drawn(1000, 10)
    posterior = posterior_wrong(np.concatenate([observed, [-5.0, wrong.mean(), 5.0]]), wrong)
    assert posterior[-3] == posterior[-2] > 0.999 and posterior[-1] == 0.0


def test_nothing_is_found_where_nothing_is_wrong():
    observed, wrong, _ = drawn(5000, 0)
    assert (posterior_wrong(observed, wrong) > 0.5).sum() == 0


def test_nothing_is_said_where_the_two_cannot_be_told_apart():
    rng = np.random.default_rng(2)
    assert posterior_wrong(rng.normal(0.3, 0.1, 500), rng.normal(0.28, 0.1, 500)).tolist() == [0.0] * 500
    assert posterior_wrong(rng.normal(0.3, 0.1, 500), rng.normal(0.13, 0.1, 500)).tolist() == [0.0] * 500


def test_hard_but_right_cases_widen_the_usual_side_that_counts():
    rng = np.random.default_rng(3)
    skewed = 0.7 - rng.gamma(2.0, 0.06, 5000)
    found = (posterior_wrong(skewed, rng.normal(0.0, 0.1, 2000)) > 0.5).mean()
    assert found < 0.005


def test_all_of_them_may_be_wrong_where_the_usual_ones_are_known():
    rng = np.random.default_rng(4)
    wrong, usual = rng.normal(0.7, 0.1, 500), rng.normal(0.2, 0.05, 500)
    assert (posterior_wrong(rng.normal(0.7, 0.1, 300), wrong, usual=usual) > 0.5).mean() > 0.98
    assert (posterior_wrong(rng.normal(0.2, 0.05, 300), wrong, usual=usual) < 0.5).mean() > 0.98
