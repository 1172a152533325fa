"""Finds similarities that are out of line, with a mixture of usual cases and a known sample of wrong cases."""

import numpy as np

_MOST_ROUNDS = 200


def posterior_wrong(observed: np.ndarray, wrong: np.ndarray, *, usual: np.ndarray | None = None) -> np.ndarray:
    """Returns the probability that each observation is one of the wrong cases.

    The mixture has two normal distributions: the wrong cases, with the mean and deviation of `wrong`, a sample made on
    purpose; and the usual cases, whose deviation is the distance from their 16th percentile to their median, on the
    side of the wrong cases, so that hard but right cases widen it. Expectation maximisation finds the share of the
    wrong cases and excludes them from these percentiles. Past the mean of the wrong cases the result stays constant,
    and past the median of the usual cases it is 0, whatever the tails of the two are. If the means are less than two
    deviations apart, so that the mixture has only one peak, the two are not separated.

    Args:
        observed: float (N,), most of them usual unless `usual` is given.
        wrong: float (M,), values of wrong cases; on average below or above the usual ones.
        usual: float (K,), a sample of usual cases, if all observations may be wrong.

    Returns:
        float64 (N,) in 0 .. 1; all 0 if the two cannot be separated.
    """
    known = observed if usual is None else usual
    sign = 1.0 if wrong.mean() < np.median(known) else -1.0  # from here on, wrong cases have low values
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
    """Returns the weighted quantile: the value below which this share of the weight is."""
    below = np.cumsum(weights)
    return [float(ascending[np.searchsorted(below, share * below[-1])]) for share in shares]
