"""Draws the class centres that take part in a step (Partial FC, arXiv 2203.15565)."""

from typing import Protocol

import torch

from facerec.core.seeding import GAMMA, finalised, shifted_right, torch_seed_of


class Draw(Protocol):
    """Chooses the classes that take part in a step, as `drawn_classes` does."""

    def __call__(
        self, *, seed: int, step: int, classes: range, rate: float, labels_of_step: torch.Tensor
    ) -> torch.Tensor: ...


def drawn_classes(*, seed: int, step: int, classes: range, rate: float, labels_of_step: torch.Tensor) -> torch.Tensor:
    """Returns the classes j, int64, sorted, with hash(seed, step, j) < rate, and the labels of the step.

    The draw of a class depends only on its own number, so it depends neither on the number of processes that hold the
    centres nor on the number of classes.

    Args:
        seed, step: the draw depends on these and the class.
        classes: the consecutive classes to draw from.
        rate: probability of a class that is not a label, in (0, 1].
        labels_of_step: int64, labels of the global batch, on the device of the result.
    """
    numbers = torch.arange(classes.start, classes.stop, device=labels_of_step.device)
    drawn = _hash(numbers, torch_seed_of("partial_fc", seed, step)) < int(rate * 2**53)
    here = (labels_of_step >= classes.start) & (labels_of_step < classes.stop)
    drawn[labels_of_step[here] - classes.start] = True
    return numbers[drawn]


def _hash(numbers: torch.Tensor, key: int) -> torch.Tensor:
    """Returns 53 random bits for each number under a key."""
    return shifted_right(finalised(finalised(numbers * GAMMA + key)), 11)
