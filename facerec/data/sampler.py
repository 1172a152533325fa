"""Which samples a step sees: the endless stream of the epochs' permutations, cut into global batches."""

import numpy as np

from facerec.core.errors import ConfigError
from facerec.core.seeding import key_of


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
        if global_batch_size < 1:
            raise ConfigError(f"data.global_batch_size={global_batch_size}; expected a positive number")
        self.num_samples = num_samples
        self.global_batch_size = global_batch_size
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def permutation(self, epoch: int) -> np.ndarray:
        """int64 (num_samples,): the order of one epoch. Sorts raw 64-bit words, which no numpy version changes."""
        if epoch != self._epoch:
            words = np.random.Philox(key=key_of("permutation", self.seed, epoch)).random_raw(self.num_samples)
            self._permutation, self._epoch = np.argsort(words, kind="stable"), epoch
        return self._permutation

    def positions(self, step: int) -> np.ndarray:
        """int64 (global_batch_size,): the stream's positions that a step takes."""
        first = step * self.global_batch_size
        return np.arange(first, first + self.global_batch_size, dtype=np.int64)

    def indices(self, step: int) -> np.ndarray:
        """int64 (global_batch_size,): the samples that a step sees, in order."""
        epochs, offsets = np.divmod(self.positions(step), self.num_samples)
        return np.concatenate([self.permutation(int(e))[offsets[epochs == e]] for e in np.unique(epochs)])
