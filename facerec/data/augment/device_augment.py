"""Augments on the device that trains: transforms of whole batches, with random numbers by stream position."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from facerec.core.errors import ConfigError, did_you_mean
from facerec.core.seeding import uniforms_of
from facerec.data.augment.device_transforms import DEVICE_TRANSFORMS, DeviceTransform
from facerec.data.augment.transform_list import Entry, built_alone, entries

_KEY = "augment.on_device"


class DeviceAugment:
    """Applies each transform to the share `p` of the samples.

    The augmentation of a sample is a pure function of its image, the seed and its position in the stream. It depends
    neither on the rest of the batch nor on the device, because its random numbers are drawn on the CPU from a hash of
    seed, place in the list, and stream position.

    Args:
        transforms: one mapping each, name to arguments: `[{HorizontalFlip: {p: 0.5}}]`; names and arguments are those
            of `facerec.data.augment.device_transforms`, and `p`, 0.5 by default.

    Raises:
        ConfigError: a name or an argument is unknown, or a value does not fit.
    """

    def __init__(self, *, transforms: Sequence[Mapping[str, Mapping[str, Any]]] = ()) -> None:
        built = [(entry.name, *_build(entry)) for entry in entries(transforms, key=_KEY)]
        self.names = [name for name, _, _ in built]
        self._transforms: list[tuple[float, DeviceTransform]] = [(p, transform) for _, p, transform in built]

    def __len__(self) -> int:
        """Returns the number of transforms."""
        return len(self._transforms)

    def check(self, *, height_px: int, width_px: int) -> None:
        """Tries each transform on a crop of that size. Raises ConfigError if one cannot take it."""
        crop = torch.zeros(1, height_px, width_px, 3, dtype=torch.uint8)
        for number, (_, transform) in enumerate(self._transforms):
            try:
                transform(crop, np.full((1, transform.num_draws), 0.5))
            except ConfigError as error:
                raise ConfigError(f"{_KEY}[{number}]: {error}") from None

    def __call__(self, images: torch.Tensor, *, seed: int, positions: np.ndarray) -> torch.Tensor:
        """Augments a batch; without transforms, returns it unchanged.

        Args:
            images: uint8 (B, H, W, 3) RGB, on any device; not modified.
            seed: the seed of the run.
            positions: int64 (B,), each sample's position in the stream.

        Returns:
            uint8 (B, H, W, 3), on the same device, with the same bytes on every device.
        """
        for number, (p, transform) in enumerate(self._transforms):
            draws = uniforms_of("augment.device", seed, number, positions=positions, num_draws=1 + transform.num_draws)
            chosen = np.flatnonzero(draws[:, 0] < p)
            if len(chosen) == 0:
                continue
            where = torch.from_numpy(chosen).to(images.device)
            changed = transform(images.index_select(0, where), draws[chosen, 1:])
            images = images.index_copy(0, where, changed)
        return images


def _build(entry: Entry) -> tuple[float, DeviceTransform]:
    cls = DEVICE_TRANSFORMS.get(entry.name)
    if cls is None:
        raise ConfigError(
            f"{entry.where}: no transform {entry.name!r} on the device{did_you_mean(entry.name, DEVICE_TRANSFORMS)} "
            f"There are {', '.join(DEVICE_TRANSFORMS)}; put all others into augment.transforms"
        )
    return built_alone(cls, entry)
