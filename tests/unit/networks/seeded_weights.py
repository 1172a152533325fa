"""Weights that depend on nothing but their names and shapes, for tests that pin what a network computes."""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch


def seeded_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of the same keys, shapes and dtypes: matrices of unit gain, norms near 1, variances above 0.5."""
    return {key: _fill(key, value) if value.is_floating_point() else value for key, value in state.items()}


def seeded_images(num_images: int, height_px: int = 112, width_px: int = 112) -> torch.Tensor:
    """float64 (num_images, 3, height_px, width_px)."""
    rng = np.random.Generator(np.random.Philox(7))
    return torch.from_numpy(rng.standard_normal((num_images, 3, height_px, width_px)))


def _fill(key: str, value: torch.Tensor) -> torch.Tensor:
    rng = np.random.Generator(np.random.Philox(zlib.crc32(key.encode())))
    numbers = rng.standard_normal(tuple(value.shape))
    if key.endswith("running_var"):
        numbers = 0.5 + np.abs(numbers)
    elif value.ndim > 1:
        numbers /= math.sqrt(math.prod(value.shape[1:]))
    else:
        numbers = 0.3 * numbers + key.endswith("weight")
    return torch.from_numpy(numbers).to(value.dtype)
