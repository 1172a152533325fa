"""IResNet 18/34/50/100/200, the backbone of the ArcFace paper (arXiv 1801.07698) and of InsightFace."""

from typing import Any

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.networks.prelu import PReLU
from facerec.networks.recompute import run_pieces

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
CONV_INIT_STD = 0.1
# With fewer channels, oneDNN's weight gradient of a strided 1x1 convolution in channels-last memory writes past its
# workspace on AVX-512: a segmentation fault, or wrong numbers (github.com/uxlfoundation/oneDNN/issues/6035).
MIN_CHANNELS = 16


class IResNetBlock(nn.Module):
    """BN - 3x3 conv - BN - PReLU - 3x3 conv (with the stride) - BN, plus the shortcut.

    Args:
        in_channels, out_channels: channels at the input and at the output.
        stride: 1 or 2; the stride of the second convolution and of the shortcut.
        project: True if the shortcut is a 1x1 convolution with BN; else it is the input itself.
    """

    def __init__(self, *, in_channels: int, out_channels: int, stride: int, project: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
            if project
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv1(self.bn1(x))
        x = self.conv2(self.prelu(self.bn2(x)))
        return self.bn3(x) + shortcut


class IResNet(nn.Module):
    """The convolutional part: (B, 3, H, W) -> (B, 512 * width_multiplier, ceil(H / 16), ceil(W / 16)).

    Module names are InsightFace's, so that its state dicts load unchanged.

    Args:
        depth: 18, 34, 50, 100 or 200.
        width_multiplier: scales all channels; 0.25 gives 16 in the stem, for machines without a GPU.
        checkpoint_activations: compute activations again in the backward pass instead of keeping them.

    Raises:
        ConfigError: the depth is another one, or the width leaves fewer than 16 channels in the stem.
    """

    name = "iresnet"
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, *, depth: int, width_multiplier: float = 1.0, checkpoint_activations: bool = False) -> None:
        super().__init__()
        if depth not in BLOCKS_PER_STAGE:
            raise ConfigError(f"backbone.depth={depth}; IResNet has the depths {', '.join(map(str, BLOCKS_PER_STAGE))}")
        if not width_multiplier * 64 >= MIN_CHANNELS:
            raise ConfigError(
                f"backbone.width_multiplier={width_multiplier}; expected at least {MIN_CHANNELS / 64} ({MIN_CHANNELS} "
                "channels in the stem)"
            )
        self.depth = depth
        self.width_multiplier = width_multiplier
        self.checkpoint_activations = checkpoint_activations
        channels = [round(c * width_multiplier) for c in (64, 64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.prelu = PReLU(channels[0])
        for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[depth], start=1):
            blocks = [
                IResNetBlock(
                    in_channels=channels[stage - 1] if i == 0 else channels[stage],
                    out_channels=channels[stage],
                    stride=2 if i == 0 else 1,
                    project=i == 0,
                )
                for i in range(num_blocks)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.out_channels = channels[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=CONV_INIT_STD)

    @property
    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for model.json."""
        return {"depth": self.depth, "width_multiplier": self.width_multiplier}

    def output_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Returns rows and columns of the feature map for an image of this size."""
        return -(-height_px // 16), -(-width_px // 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.checkpoint_activations:
            stem = nn.Sequential(self.conv1, self.bn1, self.prelu)
            pieces = [stem, *self.layer1, *self.layer2, *self.layer3, *self.layer4]
            return run_pieces(pieces, x, recompute=True)
        x = self.prelu(self.bn1(self.conv1(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
