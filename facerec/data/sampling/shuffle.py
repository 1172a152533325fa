"""The order of an epoch: over the whole set, or block by block, which suits disks that are fast in sequential reads."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from facerec.core.errors import ConfigError
from facerec.core.seeding import key_of


class Shuffle(Protocol):
    """Makes permutations from their size, a seed and an epoch."""

    def permutation(self, size: int, *, seed: int, epoch: int) -> np.ndarray:
        """Returns a permutation: int64 (size,)."""
        ...


class GlobalShuffle:
    """Makes every order of all samples equally likely."""

    def permutation(self, size: int, *, seed: int, epoch: int) -> np.ndarray:
        """Returns a permutation, int64 (size,). Sorts raw 64-bit words, which no numpy version changes."""
        return np.argsort(_words("permutation", seed, epoch, size), kind="stable")


@dataclass(frozen=True, kw_only=True)
class BlockShuffle:
    """Puts blocks of consecutive samples in random order, and mixes the samples of a few blocks at a time.

    So the samples that are mixed together, `block_size * blocks_mixed` of them, are in `blocks_mixed` places of the
    file. Samples that are far apart in the file meet as often as others, but samples of one block meet more often: in a
    file that is sorted by identity, an identity occurs several times in a batch more often than with `GlobalShuffle`.

    Args:
        block_size: number of samples in a block; the last block may be smaller.
        blocks_mixed: number of blocks whose samples are shuffled together.

    Raises:
        ConfigError: one is not positive.
    """

    block_size: int
    blocks_mixed: int

    def __post_init__(self) -> None:
        for name in ("block_size", "blocks_mixed"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name}={getattr(self, name)}; expected 1 or more")

    @property
    def num_mixed(self) -> int:
        """Returns the number of samples that are shuffled together."""
        return self.block_size * self.blocks_mixed

    def permutation(self, size: int, *, seed: int, epoch: int) -> np.ndarray:
        """Returns a permutation: int64 (size,)."""
        num_blocks = -(-size // self.block_size)
        blocks = np.argsort(_words("blocks", seed, epoch, num_blocks), kind="stable")
        in_order = (blocks[:, None] * self.block_size + np.arange(self.block_size)).reshape(-1)
        in_order = in_order[in_order < size]
        words = _words("within blocks", seed, epoch, size)
        for first in range(0, size, self.num_mixed):
            mixed = slice(first, first + self.num_mixed)
            in_order[mixed] = in_order[mixed][np.argsort(words[mixed], kind="stable")]
        return in_order


def _words(purpose: str, seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.Philox(key=key_of(purpose, seed, epoch)).random_raw(count)
