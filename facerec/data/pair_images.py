"""The images of a verification set, one by one, for code that embeds or shows them."""

from functools import cached_property

import numpy as np

from facerec.core.crop_size import size_keys
from facerec.core.errors import DataError
from facerec.data.verification_file import Pairs


class PairImages:
    """Some images of a verification set, as `Images`: of one size.

    Args:
        pairs: the set.
        numbers: int64 (N,), numbers among its 2 P images; None: all.
        size_px: height and width of the model's input; None: those of the set's first image.
    """

    def __init__(
        self, pairs: Pairs, *, numbers: np.ndarray | None = None, size_px: tuple[int, int] | None = None
    ) -> None:
        self.pairs = pairs
        self.numbers = np.arange(len(pairs.images)) if numbers is None else numbers
        self.size_px = size_px

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def _expected_px(self) -> tuple[int, int]:
        if self.size_px is not None:
            return self.size_px
        height, width, _ = self.pairs.decode(0).shape
        return height, width

    def name(self, index: int) -> str:
        """Returns the file, and the image's number in it."""
        return f"{self.pairs.path}, image {self.numbers[index]}"

    def image(self, index: int) -> np.ndarray:
        """Returns uint8 (H, W, 3), RGB. Raises DataError if it does not decode, or has another size."""
        image = self.pairs.decode(int(self.numbers[index]))
        height, width = self._expected_px
        if image.shape[:2] == (height, width):
            return image
        found = f"{self.name(index)}: the image is {image.shape[0]} x {image.shape[1]} pixels"
        if self.size_px is None:
            raise DataError(f"{found}, image 0 is {height} x {width}; expected aligned crops of one size")
        raise DataError(
            f"{found}, but the model takes {height} x {width} ({size_keys(self.size_px)}). Make the pairs of crops of "
            f"that size (facerec align size=[{height},{width}], then facerec pack), or train a model with "
            f"{size_keys(image.shape[:2])}"
        )
