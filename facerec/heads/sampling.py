"""Which class centres take part in a step (Partial FC, arXiv 2203.15565)."""

import torch

from facerec.core.seeding import GAMMA, finalised, shifted_right, torch_seed_of


def drawn_classes(*, seed: int, step: int, classes: range, rate: float, labels_of_step: torch.Tensor) -> torch.Tensor:
    """int64, sorted, of `classes`: j takes part when hash(seed, step, j) < rate, or when j is a label of the step.

    A class is drawn by a function of its own number alone, so the draw does not depend on how many processes hold
    the centres, and classes beyond the last would not change it.

    Args:
        seed, step: what the draw depends on, with the class.
        classes: those to draw from, one after the other.
        rate: probability of a class that is no label, in (0, 1].
        labels_of_step: int64, labels of the global batch, on the device of the result.
    """
    numbers = torch.arange(classes.start, classes.stop, device=labels_of_step.device)
    drawn = _hash(numbers, torch_seed_of("partial_fc", seed, step)) < int(rate * 2**53)
    here = (labels_of_step >= classes.start) & (labels_of_step < classes.stop)
    drawn[labels_of_step[here] - classes.start] = True
    return numbers[drawn]


def _hash(numbers: torch.Tensor, key: int) -> torch.Tensor:
    """53 random bits for each number under a key."""
    return shifted_right(finalised(finalised(numbers * GAMMA + key)), 11)
