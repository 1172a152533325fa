"""MobileFaceNet (arXiv 1804.07573) as InsightFace's arcface_torch builds it under the name mbf."""

from typing import Any

import torch
from torch import nn

from facerec.networks.prelu import PReLU
from facerec.networks.recompute import run_pieces

# (inner channels and output channels of the block that halves the map, inner channels and number of the next blocks)
STAGES = ((128, 128, 128, 4), (256, 256, 256, 6), (512, 256, 256, 2))
STEM_CHANNELS = 128
OUT_CHANNELS = 512


class ConvNorm(nn.Module):
    """Convolution - BN - PReLU; the PReLU is optional.

    Args:
        in_channels, out_channels: channels at the input and at the output.
        kernel_size: the map keeps its size at stride 1.
        stride: 1 or 2.
        groups: groups of the convolution.
        activation: True for a PReLU.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        norm = nn.BatchNorm2d(out_channels)
        self.layers = nn.Sequential(conv, norm, PReLU(out_channels)) if activation else nn.Sequential(conv, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Bottleneck(nn.Module):
    """1x1 to the inner channels - depthwise 3x3 - 1x1 without activation; with stride 1, plus the input.

    Args:
        in_channels, inner_channels, out_channels: channels at the input, inside, at the output.
        stride: 1 (then out_channels equals in_channels) or 2.
    """

    def __init__(self, *, in_channels: int, inner_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.layers = nn.Sequential(
            ConvNorm(in_channels=in_channels, out_channels=inner_channels),
            ConvNorm(
                in_channels=inner_channels,
                out_channels=inner_channels,
                kernel_size=3,
                stride=stride,
                groups=inner_channels,
            ),
            ConvNorm(in_channels=inner_channels, out_channels=out_channels, activation=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + x if self.stride == 1 else self.layers(x)


class Stage(nn.Module):
    """Bottlenecks of stride 1 and equal width, in sequence."""

    def __init__(self, *, channels: int, inner_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                Bottleneck(in_channels=channels, inner_channels=inner_channels, out_channels=channels, stride=1)
                for _ in range(num_blocks)
            )
        )


class MobileFaceNet(nn.Module):
    """The convolutional part: (B, 3, H, W) -> (B, 512, ceil(H / 16), ceil(W / 16)).

    Module names are InsightFace's, so that with the neck `gdc` its state dicts load unchanged.

    Args:
        checkpoint_activations: compute activations again in the backward pass instead of keeping them.
    """

    name = "mobilefacenet"
    out_channels = OUT_CHANNELS

    def __init__(self, *, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        channels = STEM_CHANNELS
        self.layers = nn.ModuleList(
            [
                ConvNorm(in_channels=3, out_channels=channels, kernel_size=3, stride=2),
                ConvNorm(in_channels=channels, out_channels=channels, kernel_size=3, groups=channels // 2),
            ]
        )
        for inner_first, out_channels, inner, num_blocks in STAGES:
            self.layers.append(
                Bottleneck(in_channels=channels, inner_channels=inner_first, out_channels=out_channels, stride=2)
            )
            self.layers.append(Stage(channels=out_channels, inner_channels=inner, num_blocks=num_blocks))
            channels = out_channels
        self.conv_sep = ConvNorm(in_channels=channels, out_channels=OUT_CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for model.json."""
        return {}

    def output_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Returns rows and columns of the feature map for an image of this size."""
        return -(-height_px // 16), -(-width_px // 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = [block for layer in self.layers for block in (layer.layers if isinstance(layer, Stage) else [layer])]
        return run_pieces([*blocks, self.conv_sep], x, recompute=self.checkpoint_activations)
