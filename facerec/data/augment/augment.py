"""Augments one crop, reproducibly per sample. The only file that imports albumentations."""

import os
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facerec.core.errors import ConfigError, did_you_mean
from facerec.core.import_path import import_path
from facerec.core.part_check import check_part
from facerec.core.seeding import Streams, generator_of, key_of
from facerec.data.augment.device_augment import DeviceAugment
from facerec.data.augment.transform_list import (
    Entry,
    Transform,
    built_alone,
    check_names,
    check_probability,
    entries,
)

COMPOSITIONS = ("OneOf", "SomeOf", "RandomOrder", "Sequential")
"""Transforms that contain other transforms, and may be entries of a list."""

_KEY = "augment.transforms"
_WANTS_FUNCTIONS = "Lambda"  # a configuration cannot give functions, so that it would do nothing


class Augment:
    """A chain of transforms with a separate random stream for every sample.

    Args:
        transforms: one mapping each, name to arguments: `[{HorizontalFlip: {p: 0.5}}]`. Names and arguments are those
            of albumentations 2.0, including OneOf, SomeOf, RandomOrder and Sequential with their `transforms`, and
            those of `face_transforms`, with `p` as the share of the samples; or the dotted path of a class of your own
            package, a `Transform` or one of albumentations' kind. They run in the loader's processes. An empty list
            does not change the crops.
        on_device: further transforms, in the same form, which run on the device that trains; see
            `facerec.data.augment.device_augment`.

    Raises:
        ConfigError: an unknown transform, arguments that it does not take (at the first use, or in `check`), or a
            transform that fails on an image, or changes its size or type.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[Mapping[str, Mapping[str, Any]]] = (),
        on_device: Sequence[Mapping[str, Mapping[str, Any]]] = (),
    ) -> None:
        self.transforms = list(transforms)
        self.on_device = DeviceAugment(transforms=on_device)
        self._chain: Any = None
        self._start()
        self._check_both()

    def check(self, *, height_px: int | None = None, width_px: int | None = None) -> None:
        """Builds the chain, so that wrong names and arguments are found before training starts.

        Args:
            height_px, width_px: if both are given, each transform is also tried on a crop of that size.

        Raises:
            ConfigError: see the class.
        """
        chain = self._built() if self.transforms else None
        if height_px is None or width_px is None:
            return
        self.on_device.check(height_px=height_px, width_px=width_px)
        if chain is not None:
            crop = generator_of("augment.check").integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
            chain.set_random_state(generator_of("augment.check", 1), random.Random(1))
            for number, transform in enumerate(chain.transforms):
                for leaf in _leaves(transform):
                    self._applied(leaf, crop, number, force_apply=True)

    def __call__(self, image: np.ndarray, *, seed: int, position: int) -> np.ndarray:
        """Augments uint8 (H, W, 3) RGB to the same shape. A pure function of image, seed and stream position."""
        if not self.transforms:
            return image
        self._seed(seed, position)
        try:
            result = self._chain(image=image)["image"]
        except Exception as error:  # each transform has its own errors
            raise self._explained(error, image, seed, position) from None
        if _is_like(result, image):
            return result
        raise self._explained(None, image, seed, position)

    def _explained(self, error: Exception | None, image: np.ndarray, seed: int, position: int) -> ConfigError:
        """Returns the error of the first transform that fails when the transforms run one by one."""
        python_random = self._seed(seed, position)
        python_random.random()  # repeats the chain's own draw, for its p of 1
        current = image
        try:
            for number, transform in enumerate(self._chain.transforms):
                current = self._applied(transform, current, number)
        except ConfigError as of_one:
            return of_one
        wrong = error or "a result of another size or type, but not when each runs alone"
        return ConfigError(f"{_KEY} fails on an image of {image.shape}: {wrong}")

    def _applied(self, transform: Any, image: np.ndarray, number: int, **options: Any) -> np.ndarray:
        """Applies one transform to an image. Raises ConfigError, with its name, if the result does not fit a batch."""
        ((name, _),) = self.transforms[number].items()
        where = f"{_KEY}[{number}] ({name})"
        try:
            result = transform(image=image, **options)["image"]
        except Exception as error:  # each transform has its own errors
            raise ConfigError(f"{where} fails on an image of {image.shape}: {_plain(error)}") from None
        if not _is_like(result, image):
            made = f"{result.dtype} {tuple(result.shape)}" if hasattr(result, "shape") else type(result).__name__
            raise ConfigError(
                f"{where} makes {made} of a crop of {image.dtype} {image.shape}; expected the same size and type: take "
                "a transform that keeps them (CropOnBlack for a crop). Normalisation is not part of augmentation"
            )
        return result

    def _seed(self, seed: int, position: int) -> random.Random:
        # One Philox stream per sample. set_random_seed would give all transforms of the chain the same numbers.
        self._random.seed(key_of("augment.python", seed, position))
        self._built().set_random_state(self._streams.at("augment", seed, position), self._random)
        return self._random

    def _built(self) -> Any:
        if self._chain is None:
            self._chain = _build(self.transforms)
        return self._chain

    def _check_both(self) -> None:
        names = [entry.name for entry in entries(self.transforms, key=_KEY)]
        if "HorizontalFlip" in names and "HorizontalFlip" in self.on_device.names:
            raise ConfigError(
                "HorizontalFlip is in augment.transforms and in augment.on_device: two flips cancel each other. "
                "Remove it from one of them"
            )

    def _start(self) -> None:
        self._streams, self._random = Streams(), random.Random()

    def __getstate__(self) -> dict[str, Any]:
        return {"transforms": self.transforms, "on_device": self.on_device, "_chain": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()


def _is_like(result: Any, image: np.ndarray) -> bool:
    return isinstance(result, np.ndarray) and result.shape == image.shape and result.dtype == image.dtype


def _leaves(transform: Any) -> list[Any]:
    """Returns the transforms inside a composition, at any depth; for another transform, itself."""
    import albumentations

    if not isinstance(transform, albumentations.BaseCompose):  # other transforms may have an attribute of that name
        return [transform]
    return [leaf for inner in transform.transforms for leaf in _leaves(inner)]


def _build(transforms: list[Mapping[str, Mapping[str, Any]]]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network for a newer version
    import albumentations

    return albumentations.Compose([_transform(entry) for entry in entries(transforms, key=_KEY)])


def _transform(entry: Entry) -> Any:
    import albumentations

    from facerec.data.augment.face_transforms import FACE_TRANSFORMS

    if "." in entry.name:
        return _own_transform(entry)
    if entry.name in FACE_TRANSFORMS:
        return _face_transform(FACE_TRANSFORMS[entry.name], entry)
    theirs: dict[str, Any] = {
        name: value
        for name, value in vars(albumentations).items()
        if isinstance(value, type) and (issubclass(value, albumentations.BasicTransform) or name in COMPOSITIONS)
        if name != _WANTS_FUNCTIONS
    }
    if entry.name not in theirs:
        raise ConfigError(
            f"{entry.where}: neither albumentations nor facerec has a transform {entry.name!r}"
            f"{did_you_mean(entry.name, [*FACE_TRANSFORMS, *theirs])}"
        )
    return _albumentation(theirs[entry.name], entry)


def _albumentation(cls: type, entry: Entry) -> Any:
    check_names(cls, entry)
    arguments = dict(entry.arguments)
    if entry.name in COMPOSITIONS:
        inner = entries(arguments.get("transforms", ()), key=f"{entry.where}.{entry.name}.transforms")
        arguments["transforms"] = [_transform(each) for each in inner]
        if not arguments["transforms"]:
            raise ConfigError(f"{entry.where}: {entry.name} has no transforms; give it some, or remove it")
        check_probability(f"{entry.where}.{entry.name}", arguments.get("p", 0.5))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # albumentations only warns of values that it ignores
            return cls(**arguments)
    except (TypeError, ValueError, ZeroDivisionError, UserWarning) as error:
        raise ConfigError(
            f"{entry.where}: {entry.name} does not take {dict(entry.arguments)}: {_plain(error)}"
        ) from None


def _face_transform(cls: type, entry: Entry) -> Any:
    """Wraps a transform of facerec in albumentations' interface."""
    import albumentations

    class FaceTransform(albumentations.ImageOnlyTransform):
        def apply(self, img: np.ndarray, **_params: Any) -> np.ndarray:
            return draw(img, self.random_generator)

    p, draw = built_alone(cls, entry)
    check_part(draw, Transform, key=entry.where, kind="transform")
    return FaceTransform(p=p)


def _own_transform(entry: Entry) -> Any:
    """Builds a transform of the user's own package: a class like those of facerec, or one of albumentations' kind."""
    import albumentations

    cls = import_path(entry.name, key=entry.where)
    if not isinstance(cls, type):
        raise ConfigError(f"{entry.where}: {entry.name} is a {type(cls).__name__}; expected a class")
    if issubclass(cls, albumentations.BasicTransform):
        return _albumentation(cls, entry)
    return _face_transform(cls, entry)


def _plain(error: Exception) -> str:
    """Returns the error in one line, without pydantic's links and counts."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(
        line.partition(" [type=")[0]
        for line in lines
        if line and not line.startswith("For further information") and "validation error" not in line
    )
