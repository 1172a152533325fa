"""A made-up set with faults of every kind, which are known."""

import dataclasses

import numpy as np

from facerec.analysis.cleaning import Cleaner
from facerec.analysis.identity_centres import normalised
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


def faulty_set() -> FaultySet:
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
