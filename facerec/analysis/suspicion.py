"""Which of many similarities are out of line: a mixture of what is usual with a known picture of what is wrong."""

import numpy as np

_MOST_ROUNDS = 200


def posterior_wrong(observed: np.ndarray, wrong: np.ndarray, *, usual: np.ndarray | None = None) -> np.ndarray:
    """How likely each observation is one of the wrong ones.

    Two normal distributions: the wrong ones, whose mean and deviation are those of `wrong`, a sample of them made on
    purpose; and the usual ones, whose deviation is the distance from their 16th percentile to their median: the side
    that faces the wrong ones, so that hard but right cases widen it. Expectation maximisation finds the share of the
    wrong ones and leaves them out of these percentiles. Beyond the mean of the wrong ones the answer stays what it is
    there, beyond the median of the usual ones it is 0, whatever the tails of the two say. Two means that are less than
    two deviations apart, where a mixture of two normal distributions has but one hill, are not told apart.

    Args:
        observed: float (N,), most of them usual unless `usual` is given.
        wrong: float (M,), what they would be were they wrong; on average below or above the usual ones.
        usual: float (K,), a sample of usual ones, where what is observed may be wrong throughout.

    Returns:
        float64 (N,) in 0 .. 1; all 0 where the two cannot be told apart.
    """
    known = observed if usual is None else usual
    sign = 1.0 if wrong.mean() < np.median(known) else -1.0  # from here on wrong ones are the low ones
    values, centre_wrong, spread_wrong = sign * observed, sign * float(wrong.mean()), max(float(wrong.std()), 1e-6)
    order = np.argsort(values, kind="stable")
    share, posterior = 0.02, np.zeros(len(observed))
    for _ in range(_MOST_ROUNDS):
        if usual is None:
            low, centre = _quantiles(values[order], 1 - posterior[order], (0.16, 0.5))
        else:
            low, centre = np.quantile(sign * usual, (0.16, 0.5)).tolist()
        spread = max(centre - low, 1e-6)
        between = np.maximum(values, centre_wrong)
        log_usual = -0.5 * ((between - centre) / spread) ** 2 - np.log(spread)
        log_wrong = -0.5 * ((between - centre_wrong) / spread_wrong) ** 2 - np.log(spread_wrong)
        log_odds = np.log(share / (1 - share)) + log_wrong - log_usual
        posterior = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
        posterior[values >= centre] = 0.0
        before, share = share, float(np.clip(posterior.mean(), 1e-6, 0.999))
        if abs(share - before) < 1e-9:
            break
    if centre - centre_wrong < 2 * np.sqrt((spread**2 + spread_wrong**2) / 2):
        return np.zeros(len(observed))
    return posterior


def _quantiles(ascending: np.ndarray, weights: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Of weighted values: where the weight below is so much of all."""
    below = np.cumsum(weights)
    return [float(ascending[np.searchsorted(below, share * below[-1])]) for share in shares]
