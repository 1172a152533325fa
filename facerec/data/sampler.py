"""Which samples a step sees: an endless stream cut into global batches, over all samples or identity by identity."""

from typing import Protocol

import numpy as np

from facerec.core.errors import ConfigError
from facerec.core.seeding import key_of, mixed


class Sampler(Protocol):
    """Batch t as a pure function of (seed, t, global batch size)."""

    global_batch_size: int

    def positions(self, step: int) -> np.ndarray:
        """int64 (global_batch_size,): the stream's positions that a step takes."""
        ...

    def indices(self, step: int) -> np.ndarray:
        """int64 (global_batch_size,): the samples that a step sees, in order."""
        ...


class StreamSampler:
    """Batch t as a pure function of (seed, t, global batch size).

    Position p of the stream is the sample `permutation(p // num_samples)[p % num_samples]`; step t takes the
    positions t * global_batch_size .. (t + 1) * global_batch_size - 1. Every batch is full, and an epoch may
    end in the middle of one.

    Args:
        num_samples: size of the data set.
        global_batch_size: samples of one optimizer step.
        seed: of the permutations.
    """

    def __init__(self, *, num_samples: int, global_batch_size: int, seed: int) -> None:
        _check_batch(global_batch_size)
        self.num_samples = num_samples
        self.global_batch_size = global_batch_size
        self.seed = seed
        self._permutations: dict[int, np.ndarray] = {}

    def permutation(self, epoch: int) -> np.ndarray:
        """int64 (num_samples,): the order of one epoch. Sorts raw 64-bit words, which no numpy version changes."""
        if epoch not in self._permutations:
            words = np.random.Philox(key=key_of("permutation", self.seed, epoch)).random_raw(self.num_samples)
            # two at most: workers are sent on into the next epoch while the trainer is in this one
            newest = dict(list(self._permutations.items())[-1:])
            self._permutations = newest | {epoch: np.argsort(words, kind="stable")}
        return self._permutations[epoch]

    def positions(self, step: int) -> np.ndarray:
        """See `Sampler.positions`."""
        return _positions(step, self.global_batch_size)

    def indices(self, step: int) -> np.ndarray:
        """See `Sampler.indices`."""
        epochs, offsets = np.divmod(self.positions(step), self.num_samples)
        return np.concatenate([self.permutation(int(e))[offsets[epochs == e]] for e in np.unique(epochs)])


class IdentitySampler:
    """P identities with K images each per batch, as a pure function of (seed, t, global batch size).

    The stream is made of visits: K images of one identity, next to each other, so that they share every micro-batch
    whose size is a multiple of K. The identities are visited in rounds, each a permutation of all of them, so that
    every identity is visited equally often, however many images it has. An identity's images are shuffled and taken
    K at a visit; where fewer than K are left (n mod K of its n images), they are shuffled anew. So a visit shows K
    different images, and every image of an identity is as likely as any other. An identity with n < K images shows
    them all at every visit, and some of them again.

    An epoch is still as many samples as the data set has, but no longer each of them once: identities with few images
    are seen more often than there, those with many less often.

    Args:
        labels: int64 (N,), the identity of every sample, in any order.
        images_per_identity: K, at least 1.
        global_batch_size: P x K samples of one optimizer step.
        seed: of the order of identities and of their images.

    Raises:
        ConfigError: K is not positive, or does not divide the global batch.
    """

    def __init__(self, *, labels: np.ndarray, images_per_identity: int, global_batch_size: int, seed: int) -> None:
        _check_batch(global_batch_size)
        if images_per_identity < 1:
            raise ConfigError(
                f"data.images_per_identity={images_per_identity}; expected 2 or more images for triplets, or null for "
                "a stream that takes no notice of identities"
            )
        if global_batch_size % images_per_identity:
            raise ConfigError(
                f"data.global_batch_size={global_batch_size} is no multiple of data.images_per_identity="
                f"{images_per_identity}: a batch holds whole identities; change one of them"
            )
        self.images_per_identity = images_per_identity
        self.global_batch_size = global_batch_size
        self._key = np.uint64(key_of("identity_images", seed) & _LOW_64)
        self._samples = np.argsort(labels, kind="stable")  # identity by identity
        counts = np.bincount(labels)
        self._counts = counts[counts > 0]
        self._starts = np.cumsum(self._counts) - self._counts
        self._visits = StreamSampler(
            num_samples=len(self._counts), global_batch_size=global_batch_size // images_per_identity, seed=seed
        )

    def positions(self, step: int) -> np.ndarray:
        """See `Sampler.positions`."""
        return _positions(step, self.global_batch_size)

    def indices(self, step: int) -> np.ndarray:
        """See `Sampler.indices`. Sample pK + k is the k-th image of the step's p-th identity."""
        identities = self._visits.indices(step)
        rounds = self._visits.positions(step) // len(self._counts)
        counts, num_images = self._counts[identities], self.images_per_identity
        shuffles, turns = np.divmod(rounds, np.maximum(counts // num_images, 1))
        # all images of the step's identities, one identity after the other, each in the order of its shuffle
        visit_of = np.repeat(np.arange(len(identities)), counts)
        firsts = np.cumsum(counts) - counts
        samples = self._samples[self._starts[identities][visit_of] + np.arange(len(visit_of)) - firsts[visit_of]]
        shuffled = samples[np.lexsort((_words(self._key, shuffles[visit_of], samples), visit_of))]
        ranks = (turns[:, None] * num_images + np.arange(num_images)) % counts[:, None]
        return shuffled[firsts[:, None] + ranks].reshape(-1)


_LOW_64 = (1 << 64) - 1


def _check_batch(global_batch_size: int) -> None:
    if global_batch_size < 1:
        raise ConfigError(f"data.global_batch_size={global_batch_size}; expected a positive number")


def _positions(step: int, global_batch_size: int) -> np.ndarray:
    first = step * global_batch_size
    return np.arange(first, first + global_batch_size, dtype=np.int64)


def _words(key: np.uint64, shuffles: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """uint64 (n,): a random word for every pair of a shuffle and a sample, as a function of both and the key alone."""
    return mixed(mixed(shuffles.astype(np.uint64) ^ key) + samples.astype(np.uint64))
