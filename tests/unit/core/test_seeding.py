"""Keys and streams are pinned: the order of the samples, augmentation and dropout of every run hang on them."""

import numpy as np
import pytest

from facerec.core.seeding import generator_of, key_of, torch_seed_of


def test_keys_are_pinned():
    assert key_of("permutation", 1, 0) == 148423507569104987323955124585006868356
    assert key_of("augment", 1, 12345) == 52820968905353171548855899431681625034
    assert key_of("network", 2**63 - 1) == 227795041906455128123866550997591546715
    assert key_of("forward", -1, 0, 3) == 191982416913255542753612245773638635289


def test_streams_are_pinned():
    assert generator_of("augment", 1, 0).integers(0, 2**32, 3).tolist() == [1235568652, 3112385112, 2170394535]
    assert torch_seed_of("forward", 1, 2, 3) == 7056931181794520969


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
