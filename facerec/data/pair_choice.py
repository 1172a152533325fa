"""Chooses pairs for verification from labelled crops: pairs of one identity, and of two."""

import numpy as np

from facerec.core.errors import ConfigError
from facerec.data.pair_folds import spread_kinds

"""Returns for every sample the most similar one of another identity: () -> int64 (N,)."""

MOST_UNASKED = 3000
_ALL_AT_ONCE = 4_000_000


def choose_identities(labels: np.ndarray, number: float, *, seed: int) -> np.ndarray:
    """Draws identities to set aside for pairs, from those with two samples or more, which make positive pairs.

    Args:
        labels: int64 (N,).
        number: how many; below 1, the share of all identities.
        seed: seed of the draw.

    Returns:
        int64 (n,), n >= 2, ascending; at least one identity remains.

    Raises:
        ConfigError: there are not enough.
    """
    counts = np.bincount(labels)
    num_all, candidates = np.count_nonzero(counts), np.flatnonzero(counts >= 2)
    wanted = round(number * num_all) if number < 1 else int(number)
    if not 2 <= wanted <= len(candidates) or wanted == num_all or (number >= 1 and number != wanted):
        raise ConfigError(
            f"split.val_identities={number:g} of {num_all} identities, {len(candidates)} of them with two images or "
            "more; expected 2 or more of those, or a share of all that gives 2 or more, and some left to train on"
        )
    return np.sort(np.random.Generator(np.random.Philox(seed)).choice(candidates, wanted, replace=False))


def choose_pairs(
    labels: np.ndarray,
    *,
    num_positive: int | None,
    num_negative: int | None,
    seed: int,
    nearest_others: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws distinct pairs of distinct samples, in an order in which every contiguous part has both kinds evenly.

    Positive pairs are spread evenly over the identities with two samples or more; negative ones are drawn from all.

    Args:
        labels: int64 (N,).
        num_positive, num_negative: how many; None: up to 3000, and equally many of both.
        seed: seed of the draw.
        nearest_others: int64 (N,), for each sample the nearest one of another identity; if given, each negative pair is
            a drawn sample and its nearest one.

    Returns:
        int64 (P, 2) sample numbers, and bool (P,), True for one identity.

    Raises:
        ConfigError: the samples do not have enough pairs; the message begins with the argument.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    counts = np.bincount(labels)
    own_pairs = counts * (counts - 1) // 2
    all_negative = _pair_number(len(labels)) - int(own_pairs.sum())
    hard = None if nearest_others is None else _hard_pairs(nearest_others, generator)
    available = {"positive": int(own_pairs.sum()), "negative": all_negative if hard is None else len(hard)}
    unasked = min(MOST_UNASKED, *available.values())
    wanted = {"positive": num_positive, "negative": num_negative}
    numbers = {kind: unasked if number is None else number for kind, number in wanted.items()}
    for kind, number in numbers.items():
        if not 1 <= number <= available[kind]:
            raise ConfigError(
                f"num_{kind}={'null' if wanted[kind] is None else number}, but {len(labels)} images of "
                f"{np.count_nonzero(counts)} identities make {available[kind]} "
                f"{'hard ' if kind == 'negative' and hard is not None else ''}{kind} pairs; ask for fewer, or give "
                "images of more identities"
            )
    positive = _positive_pairs(labels, own_pairs, numbers["positive"], generator)
    negative = (
        hard[: numbers["negative"]] if hard is not None else _negative_pairs(labels, numbers["negative"], generator)
    )
    is_same = np.repeat([True, False], [len(positive), len(negative)])
    order = spread_kinds(is_same)
    return np.concatenate([positive, negative])[order], is_same[order]


def _positive_pairs(
    labels: np.ndarray, own_pairs: np.ndarray, number: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws (number, 2), equally many from each identity, as far as it has them."""
    taken = np.zeros_like(own_pairs)
    while (missing := number - int(taken.sum())) > 0:
        open_ones = np.flatnonzero(taken < own_pairs)
        if missing < len(open_ones):
            open_ones = generator.choice(open_ones, missing, replace=False)
        taken[open_ones] += np.minimum(max(1, missing // len(open_ones)), (own_pairs - taken)[open_ones])
    order = labels.argsort(kind="stable")
    starts = np.concatenate([[0], np.bincount(labels).cumsum()])
    pairs = []
    for label in np.flatnonzero(taken):
        ranks = generator.choice(own_pairs[label], taken[label], replace=False)
        pairs.append(order[starts[label] + _pair_of_rank(ranks)])
    return generator.permutation(np.concatenate(pairs))


def _negative_pairs(labels: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Draws (number, 2) from all pairs."""
    num_all = _pair_number(len(labels))
    if num_all <= _ALL_AT_ONCE:
        pairs = _pair_of_rank(generator.permutation(num_all))
        return pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]][:number]
    found = np.empty(0, dtype=np.int64)
    while len(found) < number:
        ranks = generator.integers(num_all, size=2 * number)
        pairs = _pair_of_rank(ranks)
        found = _distinct(np.concatenate([found, ranks[labels[pairs[:, 0]] != labels[pairs[:, 1]]]]))
    return _pair_of_rank(found[:number])


def _hard_pairs(nearest_N: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns every sample with its nearest one, each pair once, in the order of a draw: (P, 2)."""
    pairs = np.sort(np.stack([np.arange(len(nearest_N)), nearest_N], axis=1), axis=1)
    ranks = pairs[:, 1] * (pairs[:, 1] - 1) // 2 + pairs[:, 0]
    return _pair_of_rank(_distinct(generator.permutation(ranks)))


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Returns each value once, in the order of first appearance."""
    return numbers[np.sort(np.unique(numbers, return_index=True)[1])]


def _pair_number(num_samples: int) -> int:
    return num_samples * (num_samples - 1) // 2


def _pair_of_rank(ranks: np.ndarray) -> np.ndarray:
    """Maps ranks (P,) to pairs (P, 2): number j (j - 1) / 2 + i is the pair i < j."""
    second = ((1 + np.sqrt(1 + 8 * ranks.astype(np.float64))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > ranks  # corrects roots that were rounded up
    second += (second + 1) * second // 2 <= ranks
    return np.stack([ranks - second * (second - 1) // 2, second], axis=1)
