"""The interface of a term: a loss beside that of the head, with a coefficient of its own.

Letters: B samples of a micro-batch, D embedding dimensions, H x W pixels.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.heads.centres import ClassCentres


@dataclass(frozen=True, kw_only=True)
class TermInputs:
    """What a term sees of a micro-batch.

    Attributes:
        emb_BD: embeddings, fp32 or fp64, not normalised, with gradient.
        labels_B: int64.
        images: uint8 (B, H, W, 3), RGB, augmented, as the network sees them before normalisation; on any device.
        target_cos_B: fp32 or fp64, the cosine between each embedding and its class centre, in [-1, 1], with gradient to
            both; None without a head.
        centres: those of the head; None without a head.
    """

    emb_BD: torch.Tensor
    labels_B: torch.Tensor
    images: torch.Tensor
    target_cos_B: torch.Tensor | None
    centres: ClassCentres | None


class Term(nn.Module):
    """Base of all terms: `forward(TermInputs)` gives a scalar, the mean over the micro-batch, without the coefficient.

    What a term learns lies in buffers, so that a checkpoint has it. It is read at a step's start and updated once at
    its end, from the whole global batch, so that it does not depend on how the batch is cut into micro-batches.

    Args:
        weight: the coefficient in the objective.

    Attributes:
        needs_head: whether the term looks at `target_cos_B` or `centres`.
        moves_all_centres: whether its gradient reaches the centres of classes that are not in the batch.

    Raises:
        ConfigError: a negative coefficient.
    """

    needs_head: ClassVar[bool] = False
    moves_all_centres: ClassVar[bool] = False

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ConfigError(f"weight={weight} for {type(self).__name__}; expected a number that is not negative")
        self.weight = weight

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """The term of a micro-batch: a scalar with gradient."""
        raise NotImplementedError

    def start_step(self, step: int) -> None:
        """Called before the first micro-batch of a step."""

    def end_step(self) -> None:
        """Called after the last micro-batch of a step: what was learned from the whole global batch takes effect."""
