"""Rows of zeros are images that could not be read: they change nothing of what is said of the others."""

import dataclasses

import numpy as np
import pytest

from facerec.analysis.identity_centres import IdentityCentres, normalised
from tests.unit.analysis.faulty_set import DIM, FaultySet, faulty_set


@pytest.fixture(scope="module")
def faulty() -> FaultySet:
    return faulty_set()


def with_unreadable(faulty: FaultySet, identities: list[str], counts: list[int], seed: int) -> FaultySet:
    """So many more images of these identities, each of which could not be read, anywhere in the set."""
    rng = np.random.default_rng(seed)
    names = sorted({*faulty.identities, *identities})
    labels = np.concatenate(
        [
            np.array([names.index(name) for name in faulty.identities])[faulty.labels],
            np.repeat([names.index(name) for name in identities], counts),
        ]
    )
    num_more = sum(counts)
    place = np.sort(rng.permutation(len(labels))[: len(faulty.labels)])  # of the images that are readable
    order = np.empty(len(labels), dtype=np.int64)
    order[place] = np.arange(len(place))
    order[np.setdiff1d(np.arange(len(labels)), place)] = np.arange(len(place), len(labels))
    return dataclasses.replace(
        faulty,
        emb=np.concatenate([faulty.emb, np.zeros((num_more, DIM))])[order],
        labels=labels[order],
        thumbnails=np.concatenate([faulty.thumbnails, np.zeros((num_more, 256))])[order],
        names=np.array([*faulty.names, *(f"unreadable {number}" for number in range(num_more))])[order].tolist(),
        identities=names,
    )


@pytest.mark.parametrize(
    ("identities", "counts"),
    [
        (["id00", "id10", "id40"], [1, 4, 9]),  # also of two people, and of one of two names
        (["id03", "id20", "id21"], [30, 3, 2]),
        (["id05a", "id99"], [5, 1]),  # all of whose images are unreadable
        (["id00", "id05", "id05a", "id10", "id33"], [6, 20, 7, 14, 2]),
    ],
)
def test_a_set_with_unreadable_images_gives_the_proposals_of_the_set_without_them(faulty, identities, counts):
    expected = faulty.told()
    assert {one[0] for one in expected} == {"mislabelled", "two_people", "one_person", "duplicate", "in_benchmark"}
    assert with_unreadable(faulty, identities, counts, seed=len(identities)).told() == expected


def test_identities_left_with_too_few_readable_images_are_not_judged(faulty):
    emb = faulty.emb.copy()
    images = np.flatnonzero(faulty.labels == 7)
    emb[images[2:]] = 0
    blind = dataclasses.replace(faulty, emb=emb)
    assert blind.told() == faulty.without(images[2:]).told()
    assert not [one for one in blind.proposals() if one.identity == "id07" and one.kind != "duplicate"]


def test_a_set_with_one_readable_identity_or_none_gives_no_wrong_labels(faulty):
    for left in (faulty.labels == 4, np.zeros(len(faulty.labels), dtype=bool)):
        blind = dataclasses.replace(faulty, emb=np.where(left[:, None], faulty.emb, 0))
        assert not [one for one in blind.proposals() if one.kind in ("mislabelled", "two_people", "one_person")]


def test_an_identity_without_readable_images_is_nobody_s_nearest():
    emb = normalised(np.array([[1, 0, -0.1], [1, 0.1, -0.1], [-1, 0, -0.1], [-1, 0.1, -0.1], [0, 0, 0]]))
    centres = IdentityCentres(emb, np.array([1, 1, 3, 3, 2]), num_identities=4)
    places = centres.places()
    assert places.nearest_N.tolist() == [3, 3, 1, 1, -1] and (places.other_N[:4] < 0).all()
    assert places.own_N[4] == places.other_N[4] == 0 and centres.counts_C.tolist() == [0, 2, 0, 2]
    assert centres.images(2).tolist() == [] and centres.images(3).tolist() == [2, 3]


@pytest.mark.filterwarnings("error")
def test_nobody_is_found_in_a_benchmark_where_there_is_no_stranger_to_compare_with(faulty):
    one_large = np.flatnonzero(faulty.labels == 4), np.flatnonzero(faulty.labels == 5)[:2]
    alone = faulty.without(np.setdiff1d(np.arange(len(faulty.labels)), np.concatenate(one_large)))
    assert [one for one in alone.proposals() if one.kind == "in_benchmark"] == []
