"""Finds wrong labels of a set from the embeddings of its images. Nothing is changed here.

Letters: N images, C identities, D embedding dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np

from facerec.analysis.duplicates import find_copies
from facerec.analysis.identity_centres import IdentityCentres, normalised
from facerec.analysis.proposals import DROP, DROP_IDENTITY, MERGE, MOVE, Proposal
from facerec.analysis.suspicion import posterior_wrong
from facerec.core.progress_bar import progress_bar
from facerec.embedding.nearest import highest_cosines, nearest_images, nearest_others

FEWEST_IMAGES = 3
"""Number of images of an identity, or of a part of one; with fewer, nobody can tell which of them is right."""
MOST_MADE = 1000
"""Number of wrong cases that are made on purpose, to know what wrong cases look like."""
MOST_DIRECTIONS, MOST_ROUNDS = 4, 20
NUM_NEAREST = 5
"""So many of the nearest images say whether an image looks like one other identity, or like nobody in particular."""


class Cleaner:
    """Examines one set.

    Args:
        emb_ND: (N, D), of norm 1; rows of zeros are images that could not be read.
        labels: int64 (N,), in 0 .. C - 1.
        identities: C names.
        name: returns the name of an image, for the column path.
        min_score: cases with a lower score are not proposed.
        seed: seed of the wrong cases that are made on purpose.
    """

    def __init__(
        self,
        *,
        emb_ND: np.ndarray,
        labels: np.ndarray,
        identities: Sequence[str],
        name: Callable[[int], str],
        min_score: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.emb_ND = emb_ND
        self.labels = labels
        self.identities = identities
        self.name = name
        self.min_score = min_score
        self.random = np.random.default_rng(seed)
        self.seed = seed
        self.centres = IdentityCentres(emb_ND, labels, num_identities=len(identities))
        self.places = self.centres.places()
        self.counts = self.centres.counts_C
        readable = self.centres.readable_n
        self.judged = readable[self.counts[labels[readable]] >= FEWEST_IMAGES]

    def mislabelled(self) -> Iterator[Proposal]:
        """Returns images that are nearer to another identity than the identity's own images are: to be dropped.

        The wrong cases are the images themselves, each measured as if it had the label of another identity. Images that
        `two_people` has found are excluded.

        Images come first whose nearest images all belong to the identity `to`, and among equal ones the most certain.
        Childhood photos, profiles, and covered or blurred faces are far from their identity too, but near to nobody in
        particular.
        """
        score_N = np.zeros(len(self.labels))
        judged = self.judged
        if len(judged) and np.count_nonzero(self.counts) > 1:
            gaps_N = self.places.own_N - self.places.other_N
            wrong_N = self.centres.gaps_if_mislabelled(self.places, seed=self.seed)
            score_N[judged] = posterior_wrong(gaps_N[judged], wrong_N[judged])
        for group in self._second_people:
            score_N[group.images] = 0.0
        images_n = np.array(self._by_score(score_N), dtype=np.int64)
        num_of_to_n, num_nearest_n = self._nearest_of_to(images_n)
        for place in np.argsort(-num_of_to_n / num_nearest_n, kind="stable").tolist():
            image = int(images_n[place])
            yield Proposal(
                kind="mislabelled",
                action=DROP,
                image=image,
                identity=self._identity_of(image),
                to=self.identities[self.places.nearest_N[image]],
                score=float(score_N[image]),
                path=self.name(image),
                why=f"cosine {self.places.own_N[image]:.2f} to its identity, {self.places.other_N[image]:.2f} to `to`; "
                f"{num_of_to_n[place]} of the {num_nearest_n[place]} nearest images are of `to`",
            )

    def _nearest_of_to(self, images_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many of each image's nearest images are of the nearest other identity, and how many are compared:
        int64 (n,), (n,). An identity with fewer than `NUM_NEAREST` images is compared with as many as it has.
        """
        to_n = self.places.nearest_N[images_n]
        num_nearest_n = np.minimum(self.counts[to_n], NUM_NEAREST)
        nearest_nk = nearest_images(self.emb_ND, images_n, self.centres.readable_n, number=NUM_NEAREST)
        is_of_to_nk = self.labels[nearest_nk] == to_n[:, None]
        is_compared_nk = np.arange(NUM_NEAREST) < num_nearest_n[:, None]
        return (is_of_to_nk & is_compared_nk).sum(axis=1), num_nearest_n

    def two_people(self) -> Iterator[Proposal]:
        """Returns identities with two groups of images that are as far apart as two people: the smaller group moves.

        The wrong cases are pairs of identities, joined. A group whose images are less than half as similar to each
        other as usual is not a person, but images with wrong labels.
        """
        taken = set(self.identities)
        for group in self._second_people:
            name = self.identities[group.identity]
            new = next(one for one in (f"{name}_{number}" for number in count(2)) if one not in taken)
            taken.add(new)
            for image in group.images.tolist():
                yield Proposal(
                    kind="two_people",
                    action=MOVE,
                    image=image,
                    identity=name,
                    to=new,
                    score=group.score,
                    path=self.name(image),
                    why=f"{len(group.images)} of {self.counts[group.identity]} images stand apart: cosine "
                    f"{group.cosine:.2f} between the centres",
                )

    @cached_property
    def _second_people(self) -> list["_Group"]:
        """Returns the most certain cases first."""
        candidates = np.flatnonzero(self.counts >= 2 * FEWEST_IMAGES)
        images_of = self.centres.images
        each = progress_bar(candidates.tolist(), what="searching for second people", unit="identities")
        splits = [_split(self._emb(images_of(identity))) for identity in each]
        joined = [
            _split(self._emb(np.concatenate([images_of(first), images_of(second)])))
            for first, second in progress_bar(
                self._pairs_of(candidates), what="joining two people on purpose", unit="pairs"
            )
        ]
        if not joined:
            return []
        score = posterior_wrong(np.array([cosine for _, cosine in splits]), np.array([cosine for _, cosine in joined]))
        tight = 0.5 * float(np.median(self.places.own_N[self.judged]))
        groups = []
        for place in self._by_score(score):
            identity, (part, cosine) = int(candidates[place]), splits[place]
            smaller = part if part.sum() * 2 <= len(part) else ~part
            images = images_of(identity)[smaller]
            if _mean_cosine_to_the_others(self._emb(images)) >= tight:
                groups.append(_Group(identity=identity, images=images, cosine=cosine, score=float(score[place])))
        return groups

    def one_person(self) -> Iterator[Proposal]:
        """Returns identities whose centres are as near to each other as two halves of one identity: to be merged.

        The wrong cases are identities that are cut in half at random.
        """
        enough = np.flatnonzero(self.counts >= 2 * FEWEST_IMAGES)
        candidates = np.flatnonzero(self.counts >= FEWEST_IMAGES)
        if len(candidates) < 2 or not len(enough):
            return
        halves = self.random.permutation(enough)[:MOST_MADE]
        wrong = np.array([self._cosine_of_halves(identity) for identity in halves.tolist()])
        centres_CD = self.centres.centres_CD[candidates]
        cosine, nearest = nearest_others(centres_CD, candidates, what="comparing identities with each other")
        score = posterior_wrong(cosine, wrong)
        for place in self._by_score(score):
            first, second = int(candidates[place]), int(candidates[nearest[place]])
            # The identity with fewer images is merged; if two are each other's nearest, one line is enough.
            is_smaller = (self.counts[first], -first) < (self.counts[second], -second)
            if not is_smaller and nearest[nearest[place]] == place:
                continue
            yield Proposal(
                kind="one_person",
                action=MERGE,
                identity=self.identities[first],
                to=self.identities[second],
                score=float(score[place]),
                why=f"cosine {cosine[place]:.2f} between the centres of {self.counts[first]} and "
                f"{self.counts[second]} images",
            )

    def in_benchmark(self, emb_MD: np.ndarray, *, benchmark: str) -> Iterator[Proposal]:
        """Returns identities that occur in another set: to be dropped as a whole.

        The wrong cases are the set's own images, compared with the centre of their identity; the usual ones are the
        centres, compared with as many images of other identities of the set.

        Args:
            emb_MD: (M, D), of norm 1: the other set's images, under the same model.
            benchmark: the other set's name.
        """
        candidates = np.flatnonzero(self.counts >= FEWEST_IMAGES)
        if not len(candidates) or not len(emb_MD):
            return
        strangers = self.random.permutation(self.judged)[: len(emb_MD)]
        centres_CD = self.centres.centres_CD[candidates]
        best, which = highest_cosines(
            centres_CD.__getitem__,
            emb_MD.astype(np.float32, copy=False),
            num_rows=len(candidates),
            what=f"comparing identities with {benchmark}",
        )
        usual, _ = highest_cosines(
            centres_CD.__getitem__,
            self._emb(strangers),
            num_rows=len(candidates),
            row_ids=candidates,
            column_ids=self.labels[strangers],
        )
        usual = usual[np.isfinite(usual)]  # without centres for which all sampled images are their own
        if not len(usual):
            return
        score = posterior_wrong(best, self.places.own_N[self.judged], usual=usual)
        for place in self._by_score(score):
            yield Proposal(
                kind="in_benchmark",
                action=DROP_IDENTITY,
                identity=self.identities[candidates[place]],
                score=float(score[place]),
                path=benchmark,
                like=int(which[place]),
                why=f"cosine {best[place]:.2f} between its centre and image {which[place]} of {benchmark}",
            )

    def duplicates(self, thumbnails_NP: np.ndarray, *, min_correlation: float) -> Iterator[Proposal]:
        """Returns images that show the same photo as another, mirrored or not: all but the one that fits best.

        The images of each identity are compared, and each image with those of the nearest other identity; equal
        thumbnails are found anywhere in the set.

        Args:
            thumbnails_NP: (N, P), of mean 0 and norm 1, of square grey images.
            min_correlation: two thumbnails with at least this correlation show one photo.
        """
        fit_N = self.places.own_N - self.places.other_N
        each = progress_bar(
            self._neighbourhoods(), what="searching for copies", unit="identities", total=len(self.identities)
        )
        for copy in find_copies(thumbnails_NP, each, fit_N=fit_N, min_correlation=min_correlation):
            yield Proposal(
                kind="duplicate",
                action=DROP,
                image=copy.image,
                identity=self._identity_of(copy.image),
                to=self._identity_of(copy.like),
                score=copy.correlation,
                path=self.name(copy.image),
                like=copy.like,
                why=f"the same photo as {self.name(copy.like)}: correlation {copy.correlation:.3f} of the thumbnails",
            )

    def _neighbourhoods(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the images of each identity, and the images of others that are nearest to it."""
        visitors = np.argsort(self.places.nearest_N, kind="stable")
        bounds = np.searchsorted(self.places.nearest_N[visitors], np.arange(len(self.identities) + 1))
        for identity in range(len(self.identities)):
            yield self.centres.images(identity), visitors[bounds[identity] : bounds[identity + 1]]

    def _by_score(self, score: np.ndarray) -> list[int]:
        order = np.argsort(-score, kind="stable")
        return order[score[order] >= self.min_score].tolist()

    def _emb(self, images: np.ndarray) -> np.ndarray:
        return self.emb_ND[images].astype(np.float32)

    def _pairs_of(self, candidates: np.ndarray) -> list[tuple[int, int]]:
        if len(candidates) < 2:
            return []
        firsts = self.random.permutation(candidates)[:MOST_MADE]
        seconds = self.random.choice(candidates, len(firsts))
        return [(a, b) for a, b in zip(firsts.tolist(), seconds.tolist(), strict=True) if a != b]

    def _cosine_of_halves(self, identity: int) -> float:
        images = self.random.permutation(self.centres.images(identity))
        halves = np.array_split(images, 2)
        first, second = (normalised(self._emb(half).sum(axis=0, keepdims=True))[0] for half in halves)
        return float(first @ second)

    def _identity_of(self, image: int) -> str:
        return self.identities[self.labels[image]]


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Images of an identity that look like another person: their numbers, and the cosine to the others."""

    identity: int
    images: np.ndarray
    cosine: float
    score: float


def _mean_cosine_to_the_others(emb_nD: np.ndarray) -> float:
    """Returns the cosine between each image and the mean of its identity's other images."""
    others_nD = normalised(emb_nD.sum(axis=0) - emb_nD)
    return float(np.einsum("nd,nd->n", others_nD, emb_nD).mean())


def _split(emb_nD: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the two groups of directions that are farthest apart: bool (n,), and the cosine between their centres.

    Spherical k-means runs from several starts: the two sides of each of the directions with the largest variance, and
    the two images that are farthest apart. Groups smaller than `FEWEST_IMAGES` do not count; without any, the cosine
    is 1.
    """
    centred_nD = emb_nD - emb_nD.mean(axis=0)
    if len(emb_nD) <= emb_nD.shape[1]:
        directions = np.linalg.eigh(centred_nD @ centred_nD.T)[1][:, -MOST_DIRECTIONS:]
    else:
        directions = centred_nD @ np.linalg.eigh(centred_nD.T @ centred_nD)[1][:, -MOST_DIRECTIONS:]
    distance_n, farthest_n = highest_cosines(lambda block: -emb_nD[block], emb_nD, num_rows=len(emb_nD))
    first = distance_n.argmax()
    beginnings = [*(directions.T > 0), emb_nD @ emb_nD[farthest_n[first]] > emb_nD @ emb_nD[first]]
    best, lowest = np.zeros(len(emb_nD), dtype=bool), 1.0
    for beginning in beginnings:
        part, cosine = _two_means(emb_nD, beginning)
        if cosine < lowest and min(part.sum(), len(part) - part.sum()) >= FEWEST_IMAGES:
            best, lowest = part, cosine
    return best, lowest


def _two_means(emb_nD: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, float]:
    """Runs spherical k-means with two groups; the cosine is 1 if one is empty."""
    cosine = 1.0
    for _ in range(MOST_ROUNDS):
        if part.all() or not part.any():
            return part, 1.0
        centres_2D = normalised(np.stack([emb_nD[~part].sum(axis=0), emb_nD[part].sum(axis=0)]))
        cosine = float(centres_2D[0] @ centres_2D[1])
        cosines_n2 = emb_nD @ centres_2D.T
        now = cosines_n2[:, 1] > cosines_n2[:, 0]
        if (now == part).all():
            break
        part = now
    return part, cosine
