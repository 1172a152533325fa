"""Augmentation of one crop, reproducible per sample. The only file that knows albumentations."""

import os
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facerec.core.errors import ConfigError
from facerec.core.seeding import generator_of, key_of


class Augment:
    """A chain of albumentations transforms, drawn from a random stream of its own for every sample.

    Args:
        transforms: one mapping each, name to arguments: `[{HorizontalFlip: {p: 0.5}}]`. Names and arguments are
            those of albumentations 2.0. An empty list leaves the crops as they are.

    Raises:
        ConfigError: a transform that albumentations does not have, or arguments that it does not take
            (at the first use, or in `check`); a transform that fails on an image, such as a crop larger than it.
    """

    def __init__(self, *, transforms: Sequence[Mapping[str, Mapping[str, Any]]] = ()) -> None:
        self.transforms = [dict(transform) for transform in transforms]
        self._chain: Any = None

    def check(self) -> None:
        """Builds the chain, so that a wrong name or argument is found before training starts."""
        if self._chain is None and self.transforms:
            self._chain = _build(self.transforms)

    def __call__(self, image: np.ndarray, *, seed: int, position: int) -> np.ndarray:
        """uint8 (H, W, 3) RGB -> the same shape. A pure function of the image, the seed and the stream position."""
        if not self.transforms:
            return image
        self.check()
        # One Philox stream per sample. set_random_seed would give every transform of the chain the same numbers.
        python_random = random.Random(key_of("augment.python", seed, position))
        self._chain.set_random_state(generator_of("augment", seed, position), python_random)
        try:
            return self._chain(image=image)["image"]
        except Exception as error:  # each transform has its own
            names = ", ".join(name for transform in self.transforms for name in transform)
            raise ConfigError(f"augment.transforms ({names}) fail on an image of {image.shape}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"transforms": self.transforms, "_chain": None}


def _build(transforms: list[dict[str, Mapping[str, Any]]]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would ask the network for a newer version
    import albumentations

    built = []
    for transform in transforms:
        if len(transform) != 1:
            raise ConfigError(f"augment.transforms: {transform}; expected one name with its arguments per entry")
        ((name, arguments),) = transform.items()
        cls = getattr(albumentations, name, None)
        if not (isinstance(cls, type) and issubclass(cls, albumentations.BasicTransform)):
            raise ConfigError(f"augment.transforms: albumentations has no transform {name!r}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it only warns of arguments that it does not know
                built.append(cls(**arguments))
        except (TypeError, ValueError, UserWarning) as error:
            raise ConfigError(f"augment.transforms: {name} does not take {dict(arguments)}: {error}") from None
    return albumentations.Compose(built)
