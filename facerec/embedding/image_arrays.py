"""Turns images of any form (paths, arrays, views, lists, PIL images, torch tensors) into one batch of RGB pixels."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facerec.align.photo_reader import is_pil, read_image
from facerec.core.crop_size import DEFAULT_SIZE_PX
from facerec.core.errors import DataError, ModelError

_EXPECTED = "uint8 RGB"


def rgb_batch(images: Any, *, size_px: tuple[int, int]) -> np.ndarray:
    """Converts one image or several to uint8 (B, H, W, 3), contiguous. The order of the channels is not changed,
    because it cannot be detected whether an image is RGB or BGR.

    Accepted are, with H and W equal to `size_px`:

    - an array or a torch tensor of any device, uint8: (B, H, W, 3), (H, W, 3); with 4 channels, the last of which,
      alpha, is dropped; greyscale as (B, H, W, 1), (H, W, 1), (B, H, W), (H, W), repeated to three channels;
    - a PIL image, in any mode with 8 bits per channel;
    - the path of an image file, text or Path;
    - a list or another sequence of single images of these kinds.

    (3, H, W) is refused, because it may be three greyscale images, or one with the channels first.

    Raises:
        DataError: there is no image, a file cannot be read, or a list has images of several sizes; names the first one.
        ModelError: the images are not uint8, have the channels first, or have another size. Shapes are reported as
            they were passed.
    """
    if isinstance(images, bytes | dict):
        raise ModelError(_no_pixels("images is", images))
    if isinstance(images, str | Path):
        images = [images]
    if isinstance(images, np.ndarray) and images.dtype == object and images.ndim == 1:
        return _stacked(list(images), size_px)  # NumPy stores images of several sizes in this way
    if _is_array(images) or is_pil(images):
        array = _pixels(images, "images is")
        return np.ascontiguousarray(_with_channels(array, size_px, "images is"))
    if not isinstance(images, Iterable):
        raise ModelError(_no_pixels("images is", images))
    return _stacked(list(images), size_px)


def _stacked(images: list[Any], size_px: tuple[int, int]) -> np.ndarray:
    if not images:
        raise DataError("no image to embed: the list is empty")
    names = [
        f"{image} is" if isinstance(image, str | Path) else f"images[{index}] is" for index, image in enumerate(images)
    ]
    arrays = [_pixels(image, name) for image, name in zip(images, names, strict=True)]
    for index, array in enumerate(arrays):
        if array.shape[:2] != arrays[0].shape[:2] and _is_single(array) and _is_single(arrays[0]):
            raise DataError(
                f"images of several sizes: {names[0]} {arrays[0].shape}, {names[index]} {array.shape}; this "
                f"network takes {size_px[0]} x {size_px[1]} pixels: align the photos first (facerec align)"
            )
    batches = [_with_channels(array, size_px, name) for array, name in zip(arrays, names, strict=True)]
    for index, (array, batch) in enumerate(zip(arrays, batches, strict=True)):
        if len(batch) != 1:
            raise ModelError(
                f"images[{index}] is {array.shape}, {len(batch)} images; a list holds single images. Pass the array "
                "itself, or np.concatenate(...) of several"
            )
    return np.concatenate(batches)


def _is_single(array: np.ndarray) -> bool:
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))


def _is_array(images: Any) -> bool:
    return isinstance(images, np.ndarray | torch.Tensor)


def _pixels(image: Any, what: str) -> np.ndarray:
    """Returns the array of one image or several, as passed. Raises ModelError if it is not one, or not of 8 bits."""
    if isinstance(image, str | Path):
        return read_image(image, where=str(image))
    if is_pil(image):
        if image.mode[:1] in ("I", "F"):
            raise ModelError(f"{what} a PIL image of mode {image.mode}, with more than 8 bits; expected {_EXPECTED}")
        return np.asarray(image.convert("RGB"))
    if not _is_array(image):
        raise ModelError(_no_pixels(what, image))
    array = image.detach().cpu() if isinstance(image, torch.Tensor) else np.asarray(image)
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype == "uint8":
        return array.numpy() if isinstance(array, torch.Tensor) else array
    raise ModelError(f"{what} {dtype} {tuple(array.shape)}; this network takes {_EXPECTED}: {_reason(array, dtype)}")


def _reason(array: Any, dtype: str) -> str:
    """Returns why pixels of another type are refused, and what to pass."""
    if not dtype.startswith(("float", "bfloat")):
        return "pass the 8-bit pixels, 0 to 255"
    ends = ""
    if 0 not in array.shape:
        ends = f" (here from {float(array.min()):.3g} to {float(array.max()):.3g})"
    return (
        f"facerec normalises pixels itself, so values that are already scaled to 0 ... 1 or -1 ... 1{ends} would be "
        "scaled twice. Pass the pixels as they were read, 0 to 255"
    )


def _with_channels(array: np.ndarray, size_px: tuple[int, int], what: str) -> np.ndarray:
    """Converts uint8 of any accepted shape to a view (B, H, W, 3)."""
    shape = array.shape
    if 0 in shape:
        raise DataError(f"no image to embed: {what} an array of shape {shape}")
    if array.ndim == 4 and shape[1:3] == size_px and shape[3] in (1, 3, 4):
        return _rgb(array)
    if array.ndim == 3 and shape[:2] == size_px and shape[2] in (1, 3, 4):
        return _rgb(array[None])
    if array.ndim == 4 and shape[1] in (1, 3, 4):
        raise ModelError(
            f"{what} {shape}, with the channels first (NCHW); expected (batch, height, width, channels): pass "
            "x.transpose(0, 2, 3, 1), of a torch tensor x.permute(0, 2, 3, 1)"
        )
    if array.ndim == 3 and shape == (3, *size_px):
        raise ModelError(
            f"{what} {shape}: one image with the channels first, or three greyscale ones? Pass x.transpose(1, 2, 0) "
            "for one image, x[..., None] for three"
        )
    if shape == size_px:
        return _rgb(array[None, :, :, None])
    if array.ndim == 3 and shape[1:] == size_px:
        return _rgb(array[..., None])
    size = "" if size_px == DEFAULT_SIZE_PX else f" size=[{size_px[0]},{size_px[1]}]"
    raise ModelError(
        f"{what} uint8 {shape}; this network takes {_EXPECTED} crops of {size_px[0]} x {size_px[1]} pixels, (batch, "
        f"{size_px[0]}, {size_px[1]}, 3) or one of them, with the face aligned on its landmarks. Align the photos "
        f"first: facerec align photos=<folder> detector.weights=<YuNet or SCRFD>{size} out=<folder>, in Python "
        "facerec.align(photos, detector=<YuNet or SCRFD>)"
    )


def _rgb(array: np.ndarray) -> np.ndarray:
    if array.shape[3] == 1:
        return np.broadcast_to(array, (*array.shape[:3], 3))
    return array[..., :3]


def _no_pixels(what: str, image: Any) -> str:
    return (
        f"{what} a {type(image).__name__}; expected the path of an image file, a uint8 array (height, width, 3) in "
        "RGB, a PIL image or a torch tensor, or a list of these"
    )
