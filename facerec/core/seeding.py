"""Random numbers as pure functions of names and numbers: nothing depends on what was drawn before."""

import hashlib
import struct

import numpy as np


def key_of(purpose: str, *numbers: int) -> int:
    """A 128-bit key that is a function of the purpose and the numbers alone, on every machine.

    Args:
        purpose: what the random numbers are for, in at most 16 bytes, so that two uses of one seed never coincide.
        numbers: for example seed, step and micro-batch; each must fit in 64 bits.
    """
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=16, person=purpose.encode()).digest(), "little")


def generator_of(purpose: str, *numbers: int) -> np.random.Generator:
    """A numpy generator on a Philox stream of its own, see `key_of`."""
    return np.random.Generator(np.random.Philox(key=key_of(purpose, *numbers)))


def torch_seed_of(purpose: str, *numbers: int) -> int:
    """A seed in 0 .. 2^63 - 1 for torch.manual_seed, see `key_of`."""
    return key_of(purpose, *numbers) >> 65
