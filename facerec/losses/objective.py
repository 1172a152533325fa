"""Objective: the one thing the trainer calls to turn embeddings and labels into a loss and figures to log."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class ObjectiveOutput:
    """What the trainer gets for a micro-batch of B samples.

    Attributes:
        loss: scalar, the mean over the samples, with gradient.
        logs: scalars to log, detached, on the device: "loss", and "target_angle_deg", the mean angle between an
            embedding and its class centre in degrees. Means over the micro-batch.
        target_cos_B: fp32 (B,), in [-1, 1], detached.
        sample_losses_B: (B,), detached.
    """

    loss: torch.Tensor
    logs: dict[str, torch.Tensor]
    target_cos_B: torch.Tensor
    sample_losses_B: torch.Tensor


class Objective(nn.Module):
    """The loss of a head, with the figures that a training log shows.

    Args:
        head: a module called with (emb_BD, labels_B) that returns a `facerec.heads.head.HeadOutput`.
    """

    def __init__(self, *, head: nn.Module) -> None:
        super().__init__()
        self.head: Any = head

    def forward(self, emb_BD: torch.Tensor, labels_B: torch.Tensor) -> ObjectiveOutput:
        """Embeddings (B, D) and int64 labels (B,) -> `ObjectiveOutput`. Raises what the head raises."""
        output = self.head(emb_BD, labels_B)
        angle_B = output.target_cos_B.acos().rad2deg()
        return ObjectiveOutput(
            loss=output.loss,
            logs={"loss": output.loss.detach(), "target_angle_deg": angle_B.mean()},
            target_cos_B=output.target_cos_B,
            sample_losses_B=output.sample_losses_B,
        )
