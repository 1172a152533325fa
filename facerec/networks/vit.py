"""Vision transformer (arXiv 2010.11929) for small images, as InsightFace's arcface_torch builds it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from facerec.core.crop_size import size_keys
from facerec.core.errors import ConfigError
from facerec.networks.recompute import run_pieces

# Letters: B batch, N tokens (patches, row by row), D token_dim, H heads.
MLP_RATIO = 4
INIT_STD = 0.02


class Attention(nn.Module):
    """Self-attention over all tokens: (B, N, D) -> (B, N, D). Queries, keys and values have no bias."""

    def __init__(self, *, token_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(token_dim, 3 * token_dim, bias=False)
        self.proj = nn.Linear(token_dim, token_dim)

    def forward(self, x_BND: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x_BND).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, H, D / H)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear - ReLU6 - linear on each token."""

    def __init__(self, *, token_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(token_dim, MLP_RATIO * token_dim)
        self.fc2 = nn.Linear(MLP_RATIO * token_dim, token_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu6(self.fc1(x)))


class ViTBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): (B, N, D) -> (B, N, D).

    Args:
        token_dim, num_heads: see `VisionTransformer`.
        drop_path: probability that a sample skips the attention, and that it skips the MLP (arXiv 1603.09382).
    """

    def __init__(self, *, token_dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        from torchvision.ops import StochasticDepth  # imported here, because it takes as long to import as torch

        self.norm1 = nn.LayerNorm(token_dim)
        self.attn = Attention(token_dim=token_dim, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(token_dim)
        self.mlp = MLP(token_dim=token_dim)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """Maps square patches to tokens: (B, 3, H, W) -> (B, N, D). Pixels of incomplete patches are cut off."""

    def __init__(self, *, patch_size_px: int, token_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, token_dim, patch_size_px, stride=patch_size_px)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """The transformer without class token: (B, 3, height_px, width_px) -> its tokens as a map (B, token_dim, h, w).

    h and w count complete patches. Module names are InsightFace's, so that with the neck `fc_bn_fc_bn` its state dicts
    load unchanged.

    Args:
        token_dim: length of a token (InsightFace: T 256, S and B 512).
        depth: number of blocks (T and S 12, B 24).
        num_heads: heads of the attention; divides token_dim.
        patch_size_px: side of a patch; 9 gives 12 x 12 tokens for 112 x 112 pixels.
        height_px, width_px: size of the images, for which the position embedding is made.
        drop_path: probability of skipping the last block's branches; rises linearly from 0 at the first block.
        mask_ratio: share of tokens that training replaces at random by a learned token.
        checkpoint_activations: compute activations again in the backward pass instead of keeping them.

    Raises:
        ConfigError: an argument is out of range, or num_heads does not divide token_dim.
    """

    name = "vit"

    def __init__(
        self,
        *,
        token_dim: int,
        depth: int,
        num_heads: int = 8,
        patch_size_px: int = 9,
        height_px: int = 112,
        width_px: int = 112,
        drop_path: float = 0.0,
        mask_ratio: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "token_dim": token_dim,
            "depth": depth,
            "num_heads": num_heads,
            "patch_size_px": patch_size_px,
            "height_px": height_px,
            "width_px": width_px,
            "drop_path": drop_path,
            "mask_ratio": mask_ratio,
        }
        _check(**self.arguments)
        self.image_size_px = (height_px, width_px)
        self.grid = (height_px // patch_size_px, width_px // patch_size_px)
        self.out_channels = token_dim
        self.mask_ratio = mask_ratio
        self.checkpoint_activations = checkpoint_activations
        self.patch_embed = PatchEmbedding(patch_size_px=patch_size_px, token_dim=token_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], token_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, token_dim), requires_grad=mask_ratio > 0)
        self.blocks = nn.ModuleList(
            ViTBlock(token_dim=token_dim, num_heads=num_heads, drop_path=drop_path * i / max(depth - 1, 1))
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(token_dim)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=INIT_STD)
        nn.init.normal_(self.mask_token, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def output_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Returns rows and columns of patches. Raises ConfigError for another size than the network's."""
        if (height_px, width_px) != self.image_size_px:
            raise ConfigError(
                f"backbone.height_px={self.image_size_px[0]}, backbone.width_px={self.image_size_px[1]}, but the input "
                f"has {height_px} x {width_px} pixels: set both to the input's, its position embedding has a fixed size"
            )
        return self.grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_BND = self.patch_embed(x) + self.pos_embed
        transform = self._transform_masked if self.training and self.mask_ratio > 0 else self._transform
        return transform(x_BND).transpose(1, 2).unflatten(2, self.grid)

    def _transform(self, x_BND: torch.Tensor) -> torch.Tensor:
        return self.norm(run_pieces(self.blocks, x_BND, recompute=self.checkpoint_activations))

    def _transform_masked(self, x_BND: torch.Tensor) -> torch.Tensor:
        """Sends only a random share of each sample's tokens through the blocks."""
        num_samples, num_tokens, token_dim = x_BND.shape
        num_kept = max(1, int(num_tokens * (1 - self.mask_ratio)))
        kept_BK = torch.rand(num_samples, num_tokens, device=x_BND.device).argsort(1)[:, :num_kept]
        kept_BKD = kept_BK[:, :, None].expand(-1, -1, token_dim)
        seen_BKD = self._transform(x_BND.gather(1, kept_BKD))
        return self.mask_token.to(seen_BKD.dtype).expand_as(x_BND).scatter(1, kept_BKD, seen_BKD)


def _check(
    *,
    token_dim: int,
    depth: int,
    num_heads: int,
    patch_size_px: int,
    height_px: int,
    width_px: int,
    drop_path: float,
    mask_ratio: float,
) -> None:
    for key, value in {"depth": depth, "num_heads": num_heads, "patch_size_px": patch_size_px}.items():
        if value < 1:
            raise ConfigError(f"backbone.{key}={value}; expected a positive number")
    if token_dim < 1 or token_dim % num_heads:
        raise ConfigError(f"backbone.token_dim={token_dim}; expected a multiple of backbone.num_heads={num_heads}")
    if min(height_px, width_px) < patch_size_px:
        raise ConfigError(
            f"backbone.patch_size_px={patch_size_px} is more than the image's {height_px} x {width_px} pixels "
            f"({size_keys((height_px, width_px))}); use smaller patches (9 is usual for 112 x 112)"
        )
    for key, share in {"drop_path": drop_path, "mask_ratio": mask_ratio}.items():
        if not 0 <= share < 1:
            raise ConfigError(f"backbone.{key}={share}; expected a number from 0, below 1")
