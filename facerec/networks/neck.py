"""The necks between a feature map and the embedding.

A neck maps (B, C, h, w) to float32 (B, embedding_dim); fp64 stays fp64. Its linear layers and the BN after them leave
autocast: an embedding in bf16 has cosines that are off by 1e-3.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from facerec.core.errors import ConfigError

VIT_NORM_EPS = 2e-5


class Neck(nn.Module, ABC):
    """The base of all necks; a subclass adds the layers.

    Args:
        in_channels, in_height, in_width: shape of the feature map; filled in from the backbone.
        embedding_dim: length of the embedding.
        dropout: probability of dropping an element of the feature map.

    Raises:
        ConfigError: embedding_dim or dropout is out of range.
    """

    name: str
    """The name in a model's card."""

    def __init__(
        self, *, in_channels: int, in_height: int, in_width: int, embedding_dim: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if embedding_dim < 1:
            raise ConfigError(f"neck.embedding_dim={embedding_dim}; expected a positive number (512 is usual)")
        if not 0 <= dropout < 1:
            raise ConfigError(f"neck.dropout={dropout}; expected a probability below 1")
        self.embedding_dim = embedding_dim
        self.dropout = nn.Dropout(dropout)
        self.add_layers(in_channels, in_height, in_width)

    @abstractmethod
    def add_layers(self, channels: int, height: int, width: int) -> None:
        """Makes the layers for a feature map of this shape."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments that the backbone does not determine, for model.json."""
        return {"embedding_dim": self.embedding_dim, "dropout": self.dropout.p}


class BNDropoutFCBN(Neck):
    """BN - dropout - flatten - linear - BN (ArcFace paper, section 3.1, "E").

    The last BN's weight stays at 1, because the head normalises the embedding anyway.
    The dropout is 0.4 in the paper and 0 in arcface_torch.
    """

    name = "bn_dropout_fc_bn"

    def add_layers(self, channels: int, height: int, width: int) -> None:
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * height * width, self.embedding_dim)
        self.features = nn.BatchNorm1d(self.embedding_dim)
        self.features.weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.bn2(x)).flatten(1)
        with without_autocast(x):
            return self.features(self.fc(at_least_fp32(x)))


class GDC(Neck):
    """Dropout - depthwise convolution over the whole map - BN - linear - BN (MobileFaceNet, arXiv 1804.07573).

    Module names and initialisation are those of InsightFace's mbf, which has no dropout.
    """

    name = "gdc"

    def add_layers(self, channels: int, height: int, width: int) -> None:
        conv = nn.Conv2d(channels, channels, (height, width), groups=channels, bias=False)
        linear = nn.Linear(channels, self.embedding_dim, bias=False)
        for layer in (conv, linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        depthwise = _Layers(conv, nn.BatchNorm2d(channels))
        self.features = _Layers(depthwise, nn.Flatten(), linear, nn.BatchNorm1d(self.embedding_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with without_autocast(x):
            return self.features(self.dropout(at_least_fp32(x)))


class FCBNFCBN(Neck):
    """Dropout - flatten, position by position - linear - BN - linear - BN, for the tokens of a transformer.

    Module names and initialisation are those of InsightFace's ViT, whose dropout is 0.
    """

    name = "fc_bn_fc_bn"

    def add_layers(self, channels: int, height: int, width: int) -> None:
        over_places = nn.Linear(height * width * channels, channels, bias=False)
        to_embedding = nn.Linear(channels, self.embedding_dim, bias=False)
        for layer in (over_places, to_embedding):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        self.feature = nn.Sequential(
            over_places,
            nn.BatchNorm1d(channels, eps=VIT_NORM_EPS),
            to_embedding,
            nn.BatchNorm1d(self.embedding_dim, eps=VIT_NORM_EPS),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(x).permute(0, 2, 3, 1).flatten(1)
        with without_autocast(x):
            return self.feature(at_least_fp32(x))


class _Layers(nn.Module):
    """Wraps a sequence under the name `layers`, which is part of InsightFace's keys."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def without_autocast(x: torch.Tensor) -> AbstractContextManager[Any]:
    """Returns a context without autocast on the device of x; the linear layers of a neck run in it."""
    has_autocast = torch.amp.is_autocast_available(x.device.type)  # the meta device has none
    return torch.autocast(x.device.type, enabled=False) if has_autocast else nullcontext()


def at_least_fp32(x: torch.Tensor) -> torch.Tensor:
    """Returns x in float32; float64 stays float64."""
    return x if x.dtype == torch.float64 else x.float()
