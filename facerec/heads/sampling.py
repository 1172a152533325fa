"""Which class centres take part in a step (Partial FC, arXiv 2203.15565)."""

import torch

from facerec.core.seeding import torch_seed_of


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
    """53 random bits for each number under a key: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014), twice."""
    words = numbers * _signed(0x9E3779B97F4A7C15) + key
    for _ in range(2):
        words = (words ^ _shifted(words, 30)) * _signed(0xBF58476D1CE4E5B9)
        words = (words ^ _shifted(words, 27)) * _signed(0x94D049BB133111EB)
        words = words ^ _shifted(words, 31)
    return _shifted(words, 11)


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """A shift to the right that brings in zeros; torch's brings in the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
