"""The size of aligned face crops: the default, the keys that set another size, and checks."""

import numpy as np

from facerec.core.errors import ConfigError, DataError

DEFAULT_SIZE_PX = (112, 112)
"""Height and width of a crop if no size is given."""


def size_keys(size_px: tuple[int, int]) -> str:
    """Returns the overrides that set a height and a width, such as "input.height_px=112 input.width_px=96"."""
    return f"input.height_px={size_px[0]} input.width_px={size_px[1]}"


def asked_size(height_px: int | None, width_px: int | None) -> tuple[int, int] | None:
    """Returns the height and width that `input.height_px` and `input.width_px` set; None if both are null.

    Raises:
        ConfigError: one of them is not positive.
    """
    if height_px is None and width_px is None:
        return None
    asked = (
        DEFAULT_SIZE_PX[0] if height_px is None else height_px,
        DEFAULT_SIZE_PX[1] if width_px is None else width_px,
    )
    if min(asked) < 1:
        raise ConfigError(f"{size_keys(asked)}; expected positive numbers, such as {size_keys(DEFAULT_SIZE_PX)}")
    return asked


def check_size(image: np.ndarray, *, where: str, size_px: tuple[int, int]) -> np.ndarray:
    """Returns the image. Raises DataError, which names the keys to set, if the image has another height or width."""
    height, width = image.shape[:2]
    if (height, width) != size_px:
        raise DataError(
            f"{where}: the image is {height} x {width} pixels; expected {size_px[0]} x {size_px[1]}. If it is an "
            f"aligned crop, set {size_keys((height, width))}; if it is a photo, align it first"
        )
    return image
