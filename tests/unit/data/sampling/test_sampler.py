"""Batch t is a pure function of (seed, t, global batch size); the stream is the epochs, concatenated."""

import numpy as np
import pytest

from facerec.core.errors import ConfigError
from facerec.data.sampling.sampler import StreamSampler


def stream(sampler: StreamSampler, steps) -> np.ndarray:
    return np.concatenate([sampler.indices(step) for step in steps])


def test_order_is_pinned():
    sampler = StreamSampler(num_samples=10, global_batch_size=4, seed=1)
    assert [sampler.indices(step).tolist() for step in range(4)] == PINNED
    assert StreamSampler(num_samples=10, global_batch_size=4, seed=2).indices(0).tolist() != PINNED[0]


@pytest.mark.parametrize(("num_samples", "batch"), [(10, 4), (10, 5), (7, 10), (3, 8), (1, 3), (48, 8)])
def test_every_sample_comes_once_per_epoch_and_every_batch_is_full(num_samples, batch):
    sampler = StreamSampler(num_samples=num_samples, global_batch_size=batch, seed=3)
    drawn = stream(sampler, range(6 * num_samples // batch + 6))
    assert len(drawn) % batch == 0 and drawn.dtype == np.int64
    for epoch in range(6):
        part = drawn[epoch * num_samples : (epoch + 1) * num_samples]
        assert sorted(part.tolist()) == list(range(num_samples))
        assert part.tolist() == sampler.permutation(epoch).tolist()


def test_batch_does_not_depend_on_what_was_asked_before():
    asked_in_order = StreamSampler(num_samples=10, global_batch_size=4, seed=1)
    expected = {step: asked_in_order.indices(step).tolist() for step in range(12)}
    asked_backwards = StreamSampler(num_samples=10, global_batch_size=4, seed=1)
    assert {step: asked_backwards.indices(step).tolist() for step in reversed(range(12))} == expected
    assert asked_backwards.indices(10**9).tolist() == asked_in_order.indices(10**9).tolist()


def test_another_batch_size_cuts_the_same_stream():
    fours, sixes = (StreamSampler(num_samples=10, global_batch_size=size, seed=1) for size in (4, 6))
    assert stream(fours, range(6)).tolist() == stream(sixes, range(4)).tolist()


def test_positions_count_on_over_the_epochs():
    sampler = StreamSampler(num_samples=10, global_batch_size=4, seed=1)
    assert np.concatenate([sampler.positions(step) for step in range(5)]).tolist() == list(range(20))


def test_permutations_of_epochs_and_seeds_differ_and_are_uniform():
    sampler = StreamSampler(num_samples=5, global_batch_size=5, seed=1)
    permutations = np.stack([sampler.permutation(epoch) for epoch in range(4000)])
    shares = np.stack([(permutations == sample).mean(axis=0) for sample in range(5)])
    assert np.abs(shares - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 4000)
    assert len({tuple(row) for row in permutations.tolist()}) == 120


@pytest.mark.parametrize("size", [0, -8])
def test_batch_size_that_is_none_is_refused(size):
    with pytest.raises(ConfigError, match=f"data.global_batch_size={size}"):
        StreamSampler(num_samples=10, global_batch_size=size, seed=1)


PINNED = [[3, 1, 9, 5], [6, 8, 0, 4], [2, 7, 1, 3], [0, 9, 4, 7]]
