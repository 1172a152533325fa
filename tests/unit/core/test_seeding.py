"""Keys and streams are pinned: the order of the samples, augmentation and dropout of every run hang on them."""

import numpy as np
import pytest
import torch

from facerec.core.seeding import GAMMA, Streams, finalised, generator_of, key_of, mixed, torch_seed_of, uniforms_of


def test_keys_are_pinned():
    assert key_of("permutation", 1, 0) == 148423507569104987323955124585006868356
    assert key_of("augment", 1, 12345) == 52820968905353171548855899431681625034
    assert key_of("network", 2**63 - 1) == 227795041906455128123866550997591546715
    assert key_of("forward", -1, 0, 3) == 191982416913255542753612245773638635289


def test_streams_are_pinned():
    assert generator_of("augment", 1, 0).integers(0, 2**32, 3).tolist() == [1235568652, 3112385112, 2170394535]
    assert torch_seed_of("forward", 1, 2, 3) == 7056931181794520969


def test_one_object_set_to_each_stream_draws_what_a_generator_of_its_own_does():
    streams = Streams()
    for number in range(50):
        reused, fresh = streams.at("augment", 3, number), generator_of("augment", 3, number)
        for generator in (reused, fresh):
            generator.integers(0, 2**31, 1 + number % 3, dtype=np.int32)  # leaves half of a word behind, or none
        assert reused.random(number % 5).tolist() == fresh.random(number % 5).tolist()
        assert reused.integers(0, 2**31, 3, dtype=np.int32).tolist() == fresh.integers(0, 2**31, 3, np.int32).tolist()
        assert reused.normal() == fresh.normal()


def test_any_change_of_purpose_or_numbers_changes_the_key():
    keys = [
        key_of("a"), key_of("b"), key_of("a", 0), key_of("a", 0, 0), key_of("a", 1), key_of("a", -1),
        key_of("a", 1, 2), key_of("a", 2, 1), key_of("a", 2**62), key_of("augment"), key_of("augment.python"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**128 for key in keys)


def test_neighbouring_seeds_have_independent_streams():
    draws = np.stack([generator_of("augment", 1, position).standard_normal(4000) for position in range(12)])
    correlations = np.corrcoef(draws) - np.eye(12)
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)


def test_torch_seeds_fit_torch():
    seeds = [torch_seed_of("forward", 1, step) for step in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 200


def test_two_purposes_with_one_beginning_cannot_coincide():
    with pytest.raises(ValueError):
        key_of("a purpose of more than sixteen bytes", 1)


def test_uniforms_are_pinned():
    draws = uniforms_of("augment.device", 1, 0, positions=np.array([0, 2**40]), num_draws=2)
    assert draws.tolist() == PINNED_UNIFORMS


def test_uniforms_of_a_position_do_not_depend_on_the_others_nor_on_their_number():
    whole = uniforms_of("a", 1, positions=np.arange(100), num_draws=3)
    assert np.array_equal(uniforms_of("a", 1, positions=np.array([70, 3]), num_draws=2), whole[[70, 3], :2])


def test_uniforms_are_uniform_and_independent():
    """Over positions, draws, purposes and seeds that lie next to each other."""
    count = 20_000
    columns = [
        uniforms_of(purpose, *numbers, positions=np.arange(first, first + count), num_draws=2)
        for purpose, numbers, first in (("a", (1, 0), 0), ("a", (1, 1), 0), ("a", (2, 0), 0), ("b", (1, 0), 1))
    ]
    draws = np.hstack([*columns, columns[0][:, 1:].take(np.arange(1, count + 1), axis=0, mode="wrap")])
    assert draws.min() >= 0 and draws.max() < 1
    tenths = np.stack([np.histogram(draw, bins=10, range=(0, 1))[0] for draw in draws.T]) / count
    assert np.abs(tenths - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / count)
    assert np.abs(np.corrcoef(draws.T) - np.eye(draws.shape[1])).max() < 5 / np.sqrt(count)


def test_splitmix64_gives_the_published_numbers_in_numpy_and_torch():
    """The generator begun at 0: its state is a multiple of GAMMA, its output the finalised state."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    states = torch.arange(3) * GAMMA
    assert mixed(states.numpy().view(np.uint64)).tolist() == expected
    assert finalised(states + GAMMA).numpy().view(np.uint64).tolist() == expected


PINNED_UNIFORMS = [[0.3757730876864942, 0.5350509408801688], [0.09049494631342647, 0.962826939692978]]
