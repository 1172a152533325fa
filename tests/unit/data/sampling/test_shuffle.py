"""Block by block: permutations whose stretches lie in few places of the file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.data.sampling.sampler import StreamSampler
from facerec.data.sampling.shuffle import BlockShuffle


@given(size=st.integers(1, 300), block_size=st.integers(1, 40), blocks_mixed=st.integers(1, 6), epoch=st.integers(0, 9))
def test_every_sample_comes_once(size, block_size, blocks_mixed, epoch):
    shuffle = BlockShuffle(block_size=block_size, blocks_mixed=blocks_mixed)
    order = shuffle.permutation(size, seed=3, epoch=epoch)
    assert order.dtype == np.int64 and sorted(order.tolist()) == list(range(size))


def test_order_is_pinned():
    order = BlockShuffle(block_size=3, blocks_mixed=2).permutation(14, seed=1, epoch=0)
    assert order.tolist() == PINNED


def test_a_stretch_lies_in_as_many_blocks_as_are_mixed():
    order = BlockShuffle(block_size=100, blocks_mixed=4).permutation(10_000, seed=1, epoch=2)
    stretches = (order // 100).reshape(25, 400)
    assert all(len(set(stretch.tolist())) == 4 for stretch in stretches)
    assert sorted({block for stretch in stretches for block in set(stretch.tolist())}) == list(range(100))


def test_within_a_stretch_samples_are_mixed_over_its_blocks():
    order = BlockShuffle(block_size=500, blocks_mixed=4).permutation(20_000, seed=1, epoch=0)
    for stretch in (order // 500).reshape(10, 2000):
        for hundred in stretch.reshape(20, 100):
            assert min(np.unique(hundred, return_counts=True)[1]) >= 8  # 25 on average, of each of the four


def test_block_pairs_meet_equally_often():
    shuffle = BlockShuffle(block_size=1, blocks_mixed=2)
    meetings = np.zeros((6, 6))
    for epoch in range(3000):
        for first, second in shuffle.permutation(6, seed=1, epoch=epoch).reshape(3, 2):
            meetings[min(first, second), max(first, second)] += 1
    share = meetings[np.triu_indices(6, 1)] / 9000
    assert share.min() > 0 and np.abs(share - 1 / 15).max() < 5 * np.sqrt(1 / 15 / 9000)


@pytest.mark.parametrize("batch", [4, 64])
def test_stream_of_blocks_is_a_pure_function_of_the_step(batch):
    def sampler():
        return StreamSampler(
            num_samples=50, global_batch_size=batch, seed=1, shuffle=BlockShuffle(block_size=8, blocks_mixed=2)
        )

    in_order = sampler()
    expected = [in_order.indices(step).tolist() for step in range(20)]
    backwards = sampler()
    assert [backwards.indices(step).tolist() for step in reversed(range(20))][::-1] == expected


PINNED = [10, 11, 3, 4, 9, 5, 2, 1, 13, 12, 6, 0, 8, 7]
