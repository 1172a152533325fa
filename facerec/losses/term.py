"""The interface of a term: an additional loss with its own weight.

Letters: B samples of a micro-batch, D embedding dimensions, H x W pixels.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.heads.centres import ClassCentres


@dataclass(frozen=True, kw_only=True)
class TermInputs:
    """The input of a term for a micro-batch.

    Attributes:
        emb_BD: embeddings, fp32 or fp64, not normalised, with gradient.
        labels_B: int64.
        images: uint8 (B, H, W, 3), RGB, augmented, before normalisation; on any device.
        target_cos_B: fp32 or fp64, the cosine between each embedding and its class centre, in [-1, 1], with gradient to
            both; None without a head.
        centres: the centres of the head; None without a head.
    """

    emb_BD: torch.Tensor
    labels_B: torch.Tensor
    images: torch.Tensor
    target_cos_B: torch.Tensor | None
    centres: ClassCentres | None


class Term(nn.Module):
    """Base of all terms: `forward(TermInputs)` returns a scalar, the mean over the micro-batch, without the weight.

    State that a term learns is in buffers, so that checkpoints save it. It is constant within a step and updated once
    at the end, from the whole global batch, so that it does not depend on the size of the micro-batches.

    Args:
        weight: the coefficient in the objective.

    Attributes:
        needs_head: True if the term reads `target_cos_B` or `centres`.
        moves_all_centres: True if its gradient reaches the centres of classes that are not in the batch.

    Raises:
        ConfigError: the weight is negative.
    """

    weight: float
    needs_head: ClassVar[bool] = False
    moves_all_centres: ClassVar[bool] = False

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ConfigError(f"weight={weight} for {type(self).__name__}; expected a number that is not negative")
        self.weight = weight

    @abstractmethod
    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Computes the term of a micro-batch: a scalar with gradient."""
        raise NotImplementedError

    def start_step(self, step: int) -> None:
        """Prepares a step; called before its first micro-batch."""

    def end_step(self) -> None:
        """Finishes a step; called after its last micro-batch, to apply what was learned from the whole global batch."""
