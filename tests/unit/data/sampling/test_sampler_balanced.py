"""Identities balanced by the root of their images, or wholly: shares, turns, and a pure function of the step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.core.errors import ConfigError
from facerec.data.sampling.sampler import BalancedSampler, IdentitySampler, SampleOrder, StreamSampler
from tests.noise_source import NoiseSource

COUNTS = [1, 4, 9, 16, 100, 2]


def labels_of(counts=COUNTS, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def sampler_of(labels: np.ndarray, **arguments) -> BalancedSampler:
    return BalancedSampler(
        **{"labels": labels, "sampling": "square_root", "global_batch_size": 12, "seed": 1} | arguments
    )


def epoch_of(sampler: BalancedSampler, labels: np.ndarray, epoch: int) -> np.ndarray:
    first = epoch * len(labels)
    steps = range(first // 12, -(-(first + len(labels)) // 12))
    drawn = np.concatenate([sampler.indices(step) for step in steps])
    return drawn[first - steps.start * 12 :][: len(labels)]


def test_order_is_pinned():
    sampler = sampler_of(np.repeat(np.arange(3), [1, 4, 9]), global_batch_size=7)
    assert [sampler.indices(step).tolist() for step in range(3)] == PINNED
    assert sampler_of(np.repeat(np.arange(3), [1, 4, 9]), global_batch_size=7, seed=2).indices(0).tolist() != PINNED[0]


@pytest.mark.parametrize("sampling", ["square_root", "identities"])
def test_every_epoch_has_each_identity_s_share_to_within_one(sampling):
    labels = labels_of()
    weights = np.sqrt(COUNTS) if sampling == "square_root" else np.ones(6)
    shares = weights / weights.sum() * len(labels)
    for epoch in range(12):
        seen = np.bincount(labels[epoch_of(sampler_of(labels, sampling=sampling), labels, epoch)], minlength=6)
        assert seen.sum() == len(labels) and np.abs(seen - shares).max() < 1


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=12), seed=st.integers(0, 2**63 - 1))
def test_shares_of_any_set(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    sampler = sampler_of(labels, global_batch_size=len(labels), seed=seed)
    shares = np.sqrt(counts) / np.sqrt(counts).sum() * len(labels)
    for epoch in range(3):
        drawn = sampler.indices(epoch)
        assert np.abs(np.bincount(labels[drawn], minlength=len(counts)) - shares).max() < 1 + 1e-9
        for identity, count in enumerate(counts):  # no image comes again before all have come
            times = Counter(drawn[labels[drawn] == identity].tolist())
            assert max(times.values(), default=0) - (min(times.values(), default=0) if len(times) == count else 0) <= 1


def test_images_of_an_identity_are_equally_likely_over_the_epochs():
    labels = labels_of()
    sampler = sampler_of(labels)
    drawn = np.concatenate([epoch_of(sampler, labels, epoch) for epoch in range(300)])
    of_the_largest = np.bincount(drawn[labels[drawn] == 4], minlength=len(labels))[labels == 4]
    assert len(of_the_largest) == 100 and of_the_largest.sum() == pytest.approx(300 * 132 * 10 / 21.41, rel=0.01)
    assert of_the_largest.std() < 15 and of_the_largest.min() > 120  # 185 on average


def test_a_shuffle_of_the_same_images_differs_from_epoch_to_epoch():
    labels = np.zeros(9, dtype=np.int64)
    orders = {tuple(sampler_of(labels, global_batch_size=9).indices(epoch).tolist()) for epoch in range(20)}
    assert len(orders) == 20


def test_batch_does_not_depend_on_what_was_asked_before_nor_on_the_batch_size():
    labels = labels_of()
    expected = [sampler_of(labels).indices(step).tolist() for step in range(30)]
    asked_backwards = sampler_of(labels)
    assert [asked_backwards.indices(step).tolist() for step in reversed(range(30))][::-1] == expected
    larger = sampler_of(labels, global_batch_size=60)
    assert np.concatenate([larger.indices(step) for step in range(6)]).tolist() == np.ravel(expected).tolist()


def test_order_of_a_config_makes_the_sampler_that_it_names():
    source = NoiseSource(num_classes=4, images_per_class=6)
    made = {
        name: type(SampleOrder(**order).sampler(source, global_batch_size=8, seed=1))
        for name, order in {
            "stream": {},
            "root": {"sampling": "square_root"},
            "balanced": {"sampling": "identities", "shuffle": "blocks"},
            "pk": {"images_per_identity": 2, "sampling": "identities"},
        }.items()
    }
    assert made == {
        "stream": StreamSampler,
        "root": BalancedSampler,
        "balanced": BalancedSampler,
        "pk": IdentitySampler,
    }


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"sampling": "uniform"}, r"data\.sampling=uniform; expected one of images, square_root, identities"),
        ({"shuffle": "none"}, r"data\.shuffle=none; expected one of global, blocks"),
        ({"images_per_identity": 4, "sampling": "square_root"}, r"data\.images_per_identity=4 draws every identity"),
        ({"shuffle": "blocks", "block_size": 0}, r"data\.block_size=0; expected 1 or more"),
    ],
)
def test_orders_that_are_none_are_refused(order, says):
    with pytest.raises(ConfigError, match=says):
        SampleOrder(**order)


PINNED = [[4, 0, 11, 2, 3, 5, 10], [0, 6, 1, 0, 12, 8, 9], [0, 4, 0, 8, 9, 1, 13]]


@pytest.mark.parametrize("sampling", ["square_root", "identities"])
def test_kept_shuffles_of_large_identities_are_those_made_anew(sampling, monkeypatch):
    labels = labels_of()
    steps = [*range(40), 3, 25, 0]  # in any order
    anew = [sampler_of(labels, sampling=sampling).indices(step).tolist() for step in steps]
    monkeypatch.setattr("facerec.data.sampling.sampler.MOST_SHUFFLED_ANEW", 8)
    sampler = sampler_of(labels, sampling=sampling)
    assert [sampler.indices(step).tolist() for step in steps] == anew
