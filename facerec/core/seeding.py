"""Random numbers as pure functions of names and numbers: nothing depends on earlier draws."""

import hashlib
import struct
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Words = TypeVar("Words", np.ndarray, "torch.Tensor")


def key_of(purpose: str, *numbers: int) -> int:
    """Returns a 128-bit key that depends on the purpose and the numbers only, on every machine.

    Args:
        purpose: the use of the random numbers, in at most 16 bytes, so that two uses of one seed never coincide.
        numbers: for example seed, step and micro-batch; each must fit in 64 bits.
    """
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=16, person=purpose.encode()).digest(), "little")


def generator_of(purpose: str, *numbers: int) -> np.random.Generator:
    """Returns a numpy generator on its own Philox stream, see `key_of`."""
    return np.random.Generator(np.random.Philox(key=key_of(purpose, *numbers)))


class Streams:
    """Gives the generators of `generator_of`, one at a time and at a tenth of the cost, by moving one object."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, purpose: str, *numbers: int) -> np.random.Generator:
        """Returns the generator at the beginning of a stream, see `key_of`; the next call moves it."""
        key = key_of(purpose, *numbers)
        self._start["state"]["key"][:] = (key & _LOW_64, key >> 64)
        self._bits.state = self._start
        return self._generator


def torch_seed_of(purpose: str, *numbers: int) -> int:
    """Returns a seed in 0 .. 2^63 - 1 for torch.manual_seed, see `key_of`."""
    return key_of(purpose, *numbers) >> 65


def uniforms_of(purpose: str, *numbers: int, positions: np.ndarray, num_draws: int) -> np.ndarray:
    """Returns independent uniform numbers for each of many positions, without a generator for each.

    Args:
        purpose, numbers: see `key_of`.
        positions: int64 (N,), for example positions in the stream of samples. A row depends only on its own position.
        num_draws: D, the count of numbers for each position.

    Returns:
        float64 (N, D) in [0, 1), multiples of 2^-53, the same on every machine.
    """
    key = key_of(purpose, *numbers)
    low, high = np.uint64(key & _LOW_64), np.uint64(key >> 64)
    draws = mixed(np.arange(num_draws, dtype=np.uint64) ^ high)
    words = mixed(mixed(positions.astype(np.uint64) ^ low)[:, None] + draws)
    return (words >> np.uint64(11)) * 2.0**-53


def mixed(words: np.ndarray) -> np.ndarray:
    """Does one step of SplitMix64 on each uint64 word, see `finalised`."""
    return finalised(words.view(np.int64) + GAMMA).view(np.uint64)


def finalised(words: Words) -> Words:
    """Mixes words so that every bit of the result depends on every bit of the word.

    This is the finaliser of SplitMix64 (Steele et al., OOPSLA 2014), which adds `GAMMA` to the word first.

    Args:
        words: int64 (...), of numpy or torch, taken as 64 bits without a sign: torch has no arithmetic of uint64.
    """
    words = (words ^ shifted_right(words, 30)) * _signed(0xBF58476D1CE4E5B9)
    words = (words ^ shifted_right(words, 27)) * _signed(0x94D049BB133111EB)
    return words ^ shifted_right(words, 31)


def shifted_right(words: Words, bits: int) -> Words:
    """Shifts int64 words to the right and brings in zeros, where `>>` brings in the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


GAMMA = _signed(0x9E3779B97F4A7C15)
"""The step of SplitMix64, as an int64."""
_LOW_64 = (1 << 64) - 1
