"""Pairs that are drawn: distinct, of the kind they say, spread evenly, and the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.core.errors import ConfigError
from facerec.data.pair_choice import _pair_of_rank, choose_identities, choose_pairs

COUNTS = [1, 2, 7, 40, 300]


def labels_of(counts: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def check(labels: np.ndarray, pairs: np.ndarray, is_same: np.ndarray, *, num_positive: int, num_negative: int) -> None:
    assert pairs.dtype == np.int64 and pairs.shape == (num_positive + num_negative, 2)
    assert (is_same.sum(), (~is_same).sum()) == (num_positive, num_negative)
    assert ((labels[pairs[:, 0]] == labels[pairs[:, 1]]) == is_same).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len(np.unique(np.sort(pairs, axis=1), axis=0)) == len(pairs)


@given(st.lists(st.integers(1, 12), min_size=2, max_size=8), st.integers(0, 5), st.data())
def test_pairs_are_distinct_and_of_the_kind_they_say(counts, seed, data):
    labels = labels_of(counts)
    most = sum(count * (count - 1) // 2 for count in counts)
    if most == 0:
        with pytest.raises(ConfigError, match=r"^num_positive=null, but .* make 0 positive pairs"):
            choose_pairs(labels, num_positive=None, num_negative=None, seed=seed)
        return
    num_positive = data.draw(st.integers(1, most))
    num_negative = data.draw(st.integers(1, len(labels) * (len(labels) - 1) // 2 - most))
    pairs, is_same = choose_pairs(labels, num_positive=num_positive, num_negative=num_negative, seed=seed)
    check(labels, pairs, is_same, num_positive=num_positive, num_negative=num_negative)


def test_identities_have_equally_many_positive_pairs_as_far_as_they_have_them():
    labels = labels_of(COUNTS)
    pairs, is_same = choose_pairs(labels, num_positive=700, num_negative=700, seed=1)
    check(labels, pairs, is_same, num_positive=700, num_negative=700)
    positive = np.bincount(labels[pairs[is_same, 0]], minlength=5)
    assert positive[:3].tolist() == [0, 1, 21] and sorted(positive[3:]) == [339, 339]


def test_many_samples_are_drawn_without_listing_all_pairs():
    labels = np.arange(30_000) // 3
    pairs, is_same = choose_pairs(labels, num_positive=2000, num_negative=20_000, seed=1)
    check(labels, pairs, is_same, num_positive=2000, num_negative=20_000)
    drawn = np.bincount(pairs[~is_same].reshape(-1) // 3000, minlength=10)
    assert drawn.min() > 0.9 * 4000  # from all over the set


def test_every_stretch_has_as_many_of_both_kinds():
    pairs, is_same = choose_pairs(labels_of(COUNTS), num_positive=600, num_negative=300, seed=1)
    assert [stretch.sum() for stretch in np.split(is_same, 10)] == [60] * 10
    assert len(pairs) == 900


def test_unasked_there_are_as_many_of_both_up_to_3000():
    for counts, expected in (([3, 3], 6), (COUNTS, 3000)):
        is_same = choose_pairs(labels_of(counts), num_positive=None, num_negative=None, seed=1)[1]
        assert (is_same.sum(), (~is_same).sum()) == (expected, expected)


def test_the_seed_decides():
    found = [choose_pairs(labels_of(COUNTS), num_positive=50, num_negative=50, seed=seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_hard_negatives_are_samples_and_their_nearest_each_pair_once():
    labels = np.array([0, 0, 1, 1, 2, 2])
    nearest = np.array([2, 4, 0, 0, 1, 0])  # 0-2 and 1-4 are each other's
    pairs, is_same = choose_pairs(labels, num_positive=3, num_negative=4, seed=1, nearest_others=nearest)
    check(labels, pairs, is_same, num_positive=3, num_negative=4)
    assert {tuple(sorted(pair)) for pair in pairs[~is_same].tolist()} == {(0, 2), (1, 4), (0, 3), (0, 5)}
    with pytest.raises(ConfigError, match=r"num_negative=5, .* make 4 hard negative pairs"):
        choose_pairs(labels, num_positive=3, num_negative=5, seed=1, nearest_others=nearest)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_positive": 0, "num_negative": 1}, "num_positive=0, but 4 images of 2 identities make 2 positive pairs"),
        ({"num_positive": 3, "num_negative": 1}, "num_positive=3"),
        ({"num_positive": 1, "num_negative": 5}, "num_negative=5, but 4 images of 2 identities make 4 negative pairs"),
    ],
)
def test_more_pairs_than_there_are_are_refused(numbers, message):
    with pytest.raises(ConfigError, match=message):
        choose_pairs(np.array([0, 0, 1, 1]), seed=0, **numbers)


def test_every_rank_is_another_pair():
    pairs = _pair_of_rank(np.arange(4950))
    assert {tuple(pair) for pair in pairs.tolist()} == {(i, j) for j in range(100) for i in range(j)}
    for second in (2**27, 10**9, 3 * 10**9):  # the root is rounded there
        first_rank = second * (second - 1) // 2
        found = _pair_of_rank(np.array([first_rank - 1, first_rank, first_rank + second - 1, first_rank + second]))
        assert found.tolist() == [[second - 2, second - 1], [0, second], [second - 1, second], [0, second + 1]]


def test_identities_are_set_aside_by_number_or_share():
    labels = labels_of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    for number, expected in ((3, 3), (0.3, 3), (9, 9), (0.25, 2)):
        chosen = choose_identities(labels, number, seed=2)
        assert len(set(chosen.tolist())) == expected and 0 not in chosen  # it has one image
        np.testing.assert_array_equal(chosen, choose_identities(labels, number, seed=2))
    assert {tuple(choose_identities(labels, 3, seed=seed).tolist()) for seed in range(20)} != {(1, 2, 3)}
    for number in (0, 1, 10, 0.1, 0.99, 2.5, -3):
        with pytest.raises(ConfigError, match=r"split\.val_identities=\S+ of 10 identities, 9 of them"):
            choose_identities(labels, number, seed=2)
