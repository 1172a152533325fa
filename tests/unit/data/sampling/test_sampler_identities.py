"""P identities with K images each: every identity equally often, its images in turn, as a pure function of the step."""

from collections import Counter

import numpy as np
import pytest

from facerec.core.errors import ConfigError
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.data.sampling.sampler import IdentitySampler, SampleOrder
from tests.noise_source import NoiseSource

COUNTS = [1, 2, 3, 4, 5, 9, 8, 30]
"""Images of the identities 0 .. 7."""


def labels_of(counts=COUNTS, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def visits(sampler: IdentitySampler, labels: np.ndarray, num_steps: int) -> dict[int, list[list[int]]]:
    """The samples of every visit, by identity, in order."""
    by_identity: dict[int, list[list[int]]] = {}
    for step in range(num_steps):
        for visit in sampler.indices(step).reshape(-1, sampler.images_per_identity).tolist():
            (identity,) = set(labels[visit].tolist())  # one identity stands together
            by_identity.setdefault(identity, []).append(visit)
    return by_identity


def sampler_of(labels: np.ndarray, **arguments) -> IdentitySampler:
    return IdentitySampler(
        **{"labels": labels, "images_per_identity": 3, "global_batch_size": 12, "seed": 1} | arguments
    )


def test_order_is_pinned():
    labels = np.repeat(np.arange(4), 5)
    sampler = sampler_of(labels, images_per_identity=2, global_batch_size=4)
    assert [sampler.indices(step).tolist() for step in range(4)] == PINNED
    assert sampler_of(labels, images_per_identity=2, global_batch_size=4, seed=2).indices(0).tolist() != PINNED[0]


def test_every_identity_comes_equally_often_and_every_batch_is_full():
    labels = labels_of()
    sampler = sampler_of(labels)
    assert all(len(sampler.indices(step)) == 12 and sampler.indices(step).dtype == np.int64 for step in range(5))
    by_identity = visits(sampler, labels, num_steps=20)  # 80 visits, 10 rounds
    assert {identity: len(times) for identity, times in by_identity.items()} == dict.fromkeys(range(8), 10)


def test_a_visit_shows_different_images_where_there_are_enough_and_all_where_there_are_few():
    labels = labels_of()
    for identity, times in visits(sampler_of(labels), labels, num_steps=60).items():
        assert {len(set(visit)) for visit in times} == {min(COUNTS[identity], 3)}


def test_images_are_gone_through_before_any_comes_again():
    labels = labels_of()
    for identity, times in visits(sampler_of(labels), labels, num_steps=60).items():
        per_shuffle = max(COUNTS[identity] // 3, 1)
        for first in range(0, len(times) - per_shuffle + 1, per_shuffle):
            taken = Counter(np.concatenate(times[first : first + per_shuffle]).tolist())
            if COUNTS[identity] >= 3:
                assert set(taken.values()) == {1} and len(taken) == 3 * per_shuffle


def test_images_of_an_identity_are_equally_likely_and_their_company_changes():
    labels = np.zeros(7, dtype=np.int64)
    sampler = sampler_of(labels, images_per_identity=3, global_batch_size=6)
    drawn = np.concatenate([sampler.indices(step) for step in range(3000)]).reshape(-1, 3)
    shares = np.bincount(drawn.reshape(-1), minlength=7) / drawn.size
    assert np.abs(shares - 1 / 7).max() < 0.005
    company = Counter(tuple(sorted(visit)) for visit in drawn.tolist())
    assert len(company) == 35  # all ways to choose 3 of 7
    assert max(company.values()) / min(company.values()) < 1.5


def test_batch_does_not_depend_on_what_was_asked_before():
    labels = labels_of()
    expected = [sampler_of(labels).indices(step).tolist() for step in range(12)]
    asked_backwards = sampler_of(labels)
    assert [asked_backwards.indices(step).tolist() for step in reversed(range(12))][::-1] == expected
    assert len(asked_backwards.indices(10**9)) == 12


def test_another_batch_size_cuts_the_same_visits():
    labels = labels_of()
    small, large = (sampler_of(labels, global_batch_size=size) for size in (6, 24))
    assert (
        np.concatenate([small.indices(step) for step in range(12)]).tolist()
        == np.concatenate([large.indices(step) for step in range(3)]).tolist()
    )
    assert np.concatenate([small.positions(step) for step in range(3)]).tolist() == list(range(18))


def test_identities_without_images_are_passed_over():
    labels = np.array([2, 2, 5, 5])
    drawn = sampler_of(labels, images_per_identity=2, global_batch_size=8).indices(0)
    assert sorted(Counter(labels[drawn].tolist()).items()) == [(2, 4), (5, 4)]


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"global_batch_size": 13}, r"data\.global_batch_size=13 is not a multiple of data\.images_per_identity=3"),
        ({"global_batch_size": 0}, r"data\.global_batch_size=0; expected a positive number"),
        ({"images_per_identity": 0}, r"data\.images_per_identity=0"),
    ],
)
def test_sizes_that_cannot_work_are_refused(sizes, says):
    with pytest.raises(ConfigError, match=says):
        sampler_of(labels_of(), **sizes)


def loader(*, num_workers: int = 0, images_per_identity: int = 3, **sizes) -> BatchLoader:
    sizes = {"global_batch_size": 12, "micro_batch_size": 6, "seed": 1} | sizes
    source = NoiseSource(num_classes=5, images_per_class=4, size_px=8)
    transforms = ({"HorizontalFlip": {"p": 0.5}}, {"GaussNoise": {"p": 1.0}})
    order = SampleOrder(images_per_identity=images_per_identity)
    return BatchLoader(
        source=source, augment=Augment(transforms=transforms), order=order, num_workers=num_workers, **sizes
    )


def contents(batches) -> list[tuple]:
    return [(b.step, b.micro_index, b.indices.tolist(), b.labels.tolist(), b.images.numpy().tobytes()) for b in batches]


def test_loader_keeps_an_identity_within_a_micro_batch():
    for batch in loader().batches(first_step=0, end_step=5):
        assert [len(set(visit)) for visit in batch.labels.reshape(-1, 3).tolist()] == [1, 1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_s_batches_depend_neither_on_workers_nor_on_the_first_step(num_workers):
    expected = contents(loader().batches(first_step=0, end_step=5))
    assert contents(loader(num_workers=num_workers).batches(first_step=3, end_step=5)) == expected[6:]
    for step in range(5):
        assert loader().labels_of_step(step).tolist() == expected[2 * step][3] + expected[2 * step + 1][3]


def test_an_image_that_comes_twice_in_a_batch_is_augmented_twice():
    (batch,) = loader(images_per_identity=6, micro_batch_size=12).batches(first_step=0, end_step=1)
    images = [image.numpy().tobytes() for image in batch.images]
    assert len(set(batch.indices.tolist())) == 8 and len(set(images)) == 12


def test_micro_batch_that_would_cut_an_identity_is_refused():
    with pytest.raises(
        ConfigError, match=r"trainer\.micro_batch_size=4 is not a multiple of data\.images_per_identity=3"
    ):
        loader(micro_batch_size=4)


PINNED = [[15, 18, 9, 5], [2, 0, 13, 10], [8, 6, 17, 19], [4, 3, 11, 12]]
