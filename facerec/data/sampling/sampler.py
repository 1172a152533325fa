"""Chooses the samples of a step: an endless stream cut into global batches, over all samples or by identity."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from facerec.core.errors import ConfigError
from facerec.core.seeding import generator_of, key_of, mixed
from facerec.core.source import Source
from facerec.data.sampling.shuffle import BlockShuffle, GlobalShuffle, Shuffle

SAMPLING = ("images", "square_root", "identities")
SHUFFLES = ("global", "blocks")
MOST_SHUFFLED_ANEW = 1024
"""Up to this number of images, the shuffle of an identity is computed each time that the identity is drawn."""


class Sampler(Protocol):
    """Gives batch t as a pure function of (seed, t, global batch size)."""

    global_batch_size: int

    def positions(self, step: int) -> np.ndarray:
        """Returns the stream's positions of a step: int64 (global_batch_size,)."""
        ...

    def indices(self, step: int) -> np.ndarray:
        """Returns the samples of a step, in order: int64 (global_batch_size,)."""
        ...


class StreamSampler:
    """Goes through all samples; batch t is a pure function of (seed, t, global batch size).

    Position p of the stream is the sample `permutation(p // num_samples)[p % num_samples]`; step t takes the
    positions t * global_batch_size .. (t + 1) * global_batch_size - 1. Every batch is full, and an epoch may
    end in the middle of one.

    Args:
        num_samples: size of the data set.
        global_batch_size: number of samples in one optimizer step.
        seed: seed of the permutations.
        shuffle: makes the permutations.
    """

    def __init__(self, *, num_samples: int, global_batch_size: int, seed: int, shuffle: Shuffle | None = None) -> None:
        _check_batch(global_batch_size)
        self.num_samples = num_samples
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.shuffle = shuffle or GlobalShuffle()
        self._permutations: dict[int, np.ndarray] = {}

    def permutation(self, epoch: int) -> np.ndarray:
        """Returns the order of one epoch: int64 (num_samples,)."""
        if epoch not in self._permutations:
            order = self.shuffle.permutation(self.num_samples, seed=self.seed, epoch=epoch)
            # at most two: workers start the next epoch while the trainer is still in this one
            newest = dict(list(self._permutations.items())[-1:])
            self._permutations = newest | {epoch: order}
        return self._permutations[epoch]

    def positions(self, step: int) -> np.ndarray:
        """See `Sampler.positions`."""
        return _positions(step, self.global_batch_size)

    def indices(self, step: int) -> np.ndarray:
        """See `Sampler.indices`."""
        epochs, offsets = np.divmod(self.positions(step), self.num_samples)
        return np.concatenate([self.permutation(int(e))[offsets[epochs == e]] for e in np.unique(epochs)])


class IdentitySampler:
    """Puts P identities with K images each into a batch, as a pure function of (seed, t, global batch size).

    The stream consists of visits: K images of one identity, next to each other, so that they are together in every
    micro-batch whose size is a multiple of K. The identities are visited in rounds, each a permutation of all of them,
    so that every identity is visited equally often, whatever its number of images. An identity's images are shuffled
    and taken K at a visit; if fewer than K remain (n mod K of its n images), they are shuffled again. So a visit shows
    K different images, and every image of an identity is equally likely. An identity with n < K images shows them all
    at every visit, and some of them again.

    An epoch still has as many samples as the data set, but not each of them once: images of small identities occur more
    often, images of large ones much less often.

    Args:
        labels: int64 (N,), the identity of every sample, in any order.
        images_per_identity: K, at least 1.
        global_batch_size: P x K, the number of samples in one optimizer step.
        seed: seed of the order of identities and of their images.
        shuffle: makes the permutations of the rounds.

    Raises:
        ConfigError: K is not positive, or does not divide the global batch.
    """

    def __init__(
        self,
        *,
        labels: np.ndarray,
        images_per_identity: int,
        global_batch_size: int,
        seed: int,
        shuffle: Shuffle | None = None,
    ) -> None:
        _check_batch(global_batch_size)
        if images_per_identity < 1:
            raise ConfigError(
                f"data.images_per_identity={images_per_identity}; expected 2 or more images for triplets, or null for "
                "a stream that ignores identities"
            )
        if global_batch_size % images_per_identity:
            raise ConfigError(
                f"data.global_batch_size={global_batch_size} is not a multiple of data.images_per_identity="
                f"{images_per_identity}: a batch holds all images of a visit; change one of them"
            )
        self.images_per_identity = images_per_identity
        self.global_batch_size = global_batch_size
        self._images = _ImagesOfIdentities(labels, key=key_of("identity_images", seed))
        self._visits = StreamSampler(
            num_samples=len(self._images.counts),
            global_batch_size=global_batch_size // images_per_identity,
            seed=seed,
            shuffle=shuffle,
        )

    def positions(self, step: int) -> np.ndarray:
        """See `Sampler.positions`."""
        return _positions(step, self.global_batch_size)

    def indices(self, step: int) -> np.ndarray:
        """See `Sampler.indices`. Sample pK + k is the k-th image of the step's p-th identity."""
        identities = self._visits.indices(step)
        rounds = self._visits.positions(step) // len(self._images.counts)
        counts, num_images = self._images.counts[identities], self.images_per_identity
        shuffles, turns = np.divmod(rounds, np.maximum(counts // num_images, 1))
        ranks = (turns[:, None] * num_images + np.arange(num_images)) % counts[:, None]
        return self._images.at(identities, shuffles, ranks).reshape(-1)


class BalancedSampler:
    """Draws small identities more often than their share of the images; a pure function, like `StreamSampler`.

    Of the N positions of an epoch, an identity with n images gets N w(n) / sum of all w, up to rounding: w = sqrt(n)
    (square_root), or 1 (identities), as compared in B. Kang et al., "Decoupling representation and classifier for
    long-tailed recognition", ICLR 2020, equation 1. Within an epoch, all its images occur before any occurs again;
    every epoch shuffles them again.

    Args:
        labels: int64 (N,), the identity of every sample, in any order.
        sampling: "square_root" or "identities".
        global_batch_size: number of samples in one optimizer step.
        seed: seed of the order.
        shuffle: makes the epochs' permutations of positions, which are sorted by identity.
    """

    def __init__(
        self,
        *,
        labels: np.ndarray,
        sampling: str,
        global_batch_size: int,
        seed: int,
        shuffle: Shuffle | None = None,
    ) -> None:
        self.global_batch_size = global_batch_size
        self.seed = seed
        self._stream = StreamSampler(
            num_samples=len(labels), global_batch_size=global_batch_size, seed=seed, shuffle=shuffle
        )
        self._images = _ImagesOfIdentities(labels, key=key_of("balanced_images", seed))
        # Roots, sums and quotients of float64 are rounded in the same way on every machine; powers are not.
        weights = np.sqrt(self._images.counts) if sampling == "square_root" else np.ones(len(self._images.counts))
        ends = np.cumsum(weights)
        self._ends = ends / ends[-1] * len(labels)
        self._starts = np.concatenate([[0.0], self._ends[:-1]])

    def positions(self, step: int) -> np.ndarray:
        """See `Sampler.positions`."""
        return _positions(step, self.global_batch_size)

    def indices(self, step: int) -> np.ndarray:
        """See `Sampler.indices`."""
        epochs = self.positions(step) // self._stream.num_samples
        # Systematic sampling: position r of an epoch belongs to the identity whose part of [0, N) contains r + offset.
        offsets = np.empty(len(epochs))
        for epoch in np.unique(epochs).tolist():
            offsets[epochs == epoch] = generator_of("balanced_offset", self.seed, epoch).random()
        parts = self._stream.indices(step)
        identities = np.searchsorted(self._ends, parts + offsets, side="right")
        turns = parts - self._first_parts(identities, offsets)
        counts = self._images.counts[identities]
        shuffles = epochs * self._stream.num_samples + turns // counts
        return self._images.at(identities, shuffles, (turns % counts)[:, None]).reshape(-1)

    def _first_parts(self, identities: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Returns the smallest r with r + offset >= the start of the identity's part, compared as `indices` does."""
        starts = self._starts[identities]
        firsts = np.ceil(starts - offsets).astype(np.int64)
        firsts -= firsts - 1 + offsets >= starts
        firsts += firsts + offsets < starts
        return np.maximum(firsts, 0)


class _ImagesOfIdentities:
    """The samples of each identity, in shuffles that depend only on a key and the number of the shuffle."""

    def __init__(self, labels: np.ndarray, *, key: int) -> None:
        self._key = np.uint64(key & _LOW_64)
        self._samples = np.argsort(labels, kind="stable")  # identity by identity
        counts = np.bincount(labels)
        self.counts = counts[counts > 0]
        self._starts = np.cumsum(self.counts) - self.counts
        self._large: dict[int, tuple[int, np.ndarray]] = {}  # identity: number of a shuffle, and the shuffle

    def at(self, identities: np.ndarray, shuffles: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Returns the samples of V identities at the ranks (V, K) of their shuffles with the numbers (V,): (V, K)."""
        found = np.empty(ranks.shape, dtype=np.int64)
        is_large = self.counts[identities] > MOST_SHUFFLED_ANEW
        for visit in np.flatnonzero(is_large).tolist():
            found[visit] = self._shuffled(int(identities[visit]), int(shuffles[visit]))[ranks[visit]]
        identities, shuffles, ranks = identities[~is_large], shuffles[~is_large], ranks[~is_large]
        counts = self.counts[identities]
        # all images of these identities, one identity after another, each in the order of its shuffle
        visit_of = np.repeat(np.arange(len(identities)), counts)
        firsts = np.cumsum(counts) - counts
        samples = self._samples[self._starts[identities][visit_of] + np.arange(len(visit_of)) - firsts[visit_of]]
        shuffled = samples[np.lexsort((_words(self._key, shuffles[visit_of], samples), visit_of))]
        found[~is_large] = shuffled[firsts[:, None] + ranks]
        return found

    def _shuffled(self, identity: int, shuffle: int) -> np.ndarray:
        """Returns all samples of a large identity: int64 (n,). The latest shuffle is kept: it serves n visits.

        If an epoch goes through an identity several times, its shuffles alternate, and each is computed again.
        """
        kept = self._large.get(identity)
        if kept is None or kept[0] != shuffle:
            samples = self._samples[self._starts[identity] :][: self.counts[identity]]
            kept = (shuffle, samples[np.argsort(_words(self._key, np.array([shuffle]), samples), kind="stable")])
            self._large[identity] = kept
        return kept[1]


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """How often samples occur, and in which order; keys of the section `data`.

    Args:
        sampling: "images" uses each sample once per epoch, "identities" every identity equally often, "square_root" is
            between the two.
        images_per_identity: K: draws identities with K images each, which stay together in a micro-batch; every
            identity is then drawn equally often.
        shuffle: "global" or "blocks", see `BlockShuffle`.
        block_size, blocks_mixed: options of "blocks".

    Raises:
        ConfigError: a name is unknown, or two values exclude each other.
    """

    sampling: str = "images"
    images_per_identity: int | None = None
    shuffle: str = "global"
    block_size: int = 1024
    blocks_mixed: int = 64

    def __post_init__(self) -> None:
        for name, value, names in (("sampling", self.sampling, SAMPLING), ("shuffle", self.shuffle, SHUFFLES)):
            if value not in names:
                raise ConfigError(f"data.{name}={value}; expected one of {', '.join(names)}")
        if self.images_per_identity is not None and self.sampling == "square_root":
            raise ConfigError(
                f"data.images_per_identity={self.images_per_identity} draws every identity equally often, "
                "data.sampling=square_root does not: remove one of them"
            )
        self._shuffle()

    def sampler(self, source: Source, *, global_batch_size: int, seed: int) -> Sampler:
        """Returns the sampler of a set. Raises its ConfigError."""
        if self.images_per_identity is not None:
            return IdentitySampler(
                labels=source.labels,
                images_per_identity=self.images_per_identity,
                global_batch_size=global_batch_size,
                seed=seed,
                shuffle=self._shuffle(samples_each=len(source) // source.num_classes),
            )
        if self.sampling == "images":
            return StreamSampler(
                num_samples=len(source), global_batch_size=global_batch_size, seed=seed, shuffle=self._shuffle()
            )
        return BalancedSampler(
            labels=source.labels,
            sampling=self.sampling,
            global_batch_size=global_batch_size,
            seed=seed,
            shuffle=self._shuffle(),
        )

    def _shuffle(self, *, samples_each: int = 1) -> Shuffle:
        """Returns the shuffle of items that stand for this many samples each."""
        if self.shuffle == "global":
            return GlobalShuffle()
        block_size = self.block_size if samples_each <= 1 else max(1, self.block_size // samples_each)
        return BlockShuffle(block_size=block_size, blocks_mixed=self.blocks_mixed)


_LOW_64 = (1 << 64) - 1


def _check_batch(global_batch_size: int) -> None:
    if global_batch_size < 1:
        raise ConfigError(f"data.global_batch_size={global_batch_size}; expected a positive number")


def _positions(step: int, global_batch_size: int) -> np.ndarray:
    first = step * global_batch_size
    return np.arange(first, first + global_batch_size, dtype=np.int64)


def _words(key: np.uint64, shuffles: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns a random word for every pair of a shuffle and a sample, which depends only on both and the key."""
    return mixed(mixed(shuffles.astype(np.uint64) ^ key) + samples.astype(np.uint64))
