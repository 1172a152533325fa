"""Rows of zeros are images that could not be read: they change nothing of what is said of the others."""

import dataclasses

import numpy as np
import pytest

from facerec.analysis.cleaning import Cleaner
from facerec.analysis.identity_centres import IdentityCentres, normalised
from facerec.analysis.proposals import Proposal

DIM, NUM_PEOPLE = 32, 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaultySet:
    """A set with faults of every kind, and people of a benchmark."""

    emb: np.ndarray
    labels: np.ndarray
    thumbnails: np.ndarray
    names: list[str]
    identities: list[str]
    benchmark: np.ndarray

    def without(self, images: np.ndarray) -> "FaultySet":
        """Without these images, and without identities that have no other ones."""
        stays = np.ones(len(self.labels), dtype=bool)
        stays[images] = False
        found, labels = np.unique(self.labels[stays], return_inverse=True)
        return dataclasses.replace(
            self,
            emb=self.emb[stays],
            labels=labels,
            thumbnails=self.thumbnails[stays],
            names=[name for name, is_kept in zip(self.names, stays, strict=True) if is_kept],
            identities=[self.identities[identity] for identity in found],
        )

    def proposals(self) -> list[Proposal]:
        """Of every kind, as the command asks for them."""
        cleaner = Cleaner(
            emb_ND=self.emb, labels=self.labels, identities=self.identities, name=self.names.__getitem__, min_score=0.3
        )
        found = [*cleaner.mislabelled(), *cleaner.two_people(), *cleaner.one_person()]
        found += cleaner.duplicates(self.thumbnails, min_correlation=0.97)
        return [*found, *cleaner.in_benchmark(self.benchmark, benchmark="lfw.bin")]

    def told(self) -> list[tuple]:
        """The proposals by the names of the images, since their numbers differ between sets."""
        return [
            (
                one.kind, one.action, one.identity, one.to, round(one.score, 4), one.path, one.why,
                one.like if one.like is None or one.kind == "in_benchmark" else self.names[one.like],
            )
            for one in self.proposals()
        ]  # fmt: skip


@pytest.fixture(scope="module")
def faulty() -> FaultySet:
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(NUM_PEOPLE), 14)
    directions = normalised(rng.normal(size=(NUM_PEOPLE, DIM)))
    emb = normalised(directions[people] + 0.85 * normalised(rng.normal(size=(len(people), DIM))))
    labels = people.copy()
    moved = rng.choice(len(people), 15, replace=False)
    labels[moved] = (people[moved] + rng.integers(1, NUM_PEOPLE, 15)) % NUM_PEOPLE
    labels[np.flatnonzero(people == 5)[:6]] = NUM_PEOPLE  # one person under two names
    labels[np.flatnonzero(people == 9)] = 10  # two people under one
    labels[people == 9] = np.where(np.arange((people == 9).sum()) < 9, 10, 11)
    thumbnails = normalised(rng.normal(size=(len(people), 256)))
    thumbnails[[17, 205]], thumbnails[30] = thumbnails[[16, 400]], 0
    benchmark = normalised(np.concatenate([rng.normal(size=(40, DIM)), directions[[3, 21]]]))
    names = [f"photo {number}" for number in range(len(people))]
    identities = [f"id{number:02d}" for number in range(NUM_PEOPLE + 1)]
    return FaultySet(
        emb=emb, labels=labels, thumbnails=thumbnails, names=names, identities=identities, benchmark=benchmark
    )


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
