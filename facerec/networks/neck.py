"""The BN-Dropout-FC-BN neck between a feature map and the embedding (ArcFace paper, section 3.1, "E")."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from facerec.core.errors import ConfigError


class BNDropoutFCBN(nn.Module):
    """BN - dropout - flatten - linear - BN: (B, C, h, w) -> float32 (B, embedding_dim), fp64 stays fp64.

    The linear layer and the last BN leave autocast: an embedding in bf16 has cosines that are off by 1e-3.
    The last BN's weight stays at 1, since the head normalises the embedding anyway.

    Args:
        in_channels, in_height, in_width: shape of the feature map; filled in from the backbone.
        embedding_dim: length of the embedding.
        dropout: probability of dropping an element of the feature map (paper 0.4, arcface_torch 0).
    """

    name = "bn_dropout_fc_bn"

    def __init__(
        self, *, in_channels: int, in_height: int, in_width: int, embedding_dim: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if embedding_dim < 1:
            raise ConfigError(f"neck.embedding_dim={embedding_dim}; expected a positive number (512 is usual)")
        if not 0 <= dropout < 1:
            raise ConfigError(f"neck.dropout={dropout}; expected a probability below 1")
        self.embedding_dim = embedding_dim
        self.bn2 = nn.BatchNorm2d(in_channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels * in_height * in_width, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        self.features.weight.requires_grad_(False)

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments that the backbone does not determine, for model.json."""
        return {"embedding_dim": self.embedding_dim, "dropout": self.dropout.p}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.bn2(x)).flatten(1)
        has_autocast = torch.amp.is_autocast_available(x.device.type)  # the meta device has none
        with torch.autocast(x.device.type, enabled=False) if has_autocast else nullcontext():
            if x.dtype != torch.float64:
                x = x.float()
            return self.features(self.fc(x))
