"""AdaFace: a margin that adapts to the quality of the image (arXiv 2204.00964)."""

from typing import Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import BeyondPi, CombinedMargin, Gradient
from facerec.heads.options import HeadOptions


class AdaFaceHead(Head):
    """psi = cos(theta - m z) - (m z + m), where z compares the embedding's norm with the other norms.

    z = clip((||x|| - mean) / ((std + 1e-3) / h), -1, 1); the norms are detached and clipped to [1e-3, 100]. Mean and
    standard deviation (unbiased) are running averages over the global batches, and start at 20 and 100.

    Args:
        m: margin.
        h: width of the range of norms over which the margin changes, in standard deviations.
        momentum: momentum of the mean and the standard deviation, which are updated after every step.
        beyond_pi, gradient: see `CombinedMargin`; the paper clips the angle to [1e-3, pi - 1e-3].
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    norm_mean: torch.Tensor
    norm_std: torch.Tensor

    def __init__(
        self,
        *,
        m: float = 0.4,
        h: float = 0.333,
        momentum: float = 0.99,
        beyond_pi: BeyondPi = "clip",
        gradient: Gradient = "exact",
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(**options)
        if h <= 0:
            raise ConfigError(f"head.h is {h}; expected a positive number, 0.333 in the paper")
        if not 0 <= momentum <= 1:
            raise ConfigError(f"head.momentum is {momentum}; expected 0 .. 1")
        self.m, self.h, self.momentum = m, h, momentum
        self.margin = CombinedMargin(m2=m, beyond_pi=beyond_pi, gradient=gradient)  # checks m; m2 is set per sample
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_std", torch.tensor(100.0))

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi, see the class."""
        quality_B = (_clipped(norm_B) - self.norm_mean) / (self.norm_std + 1e-3) * self.h
        shift_B = self.margin_fraction * self.m * quality_B.clamp(-1, 1)
        return self.margin.target(cos_B, m2_B=-shift_B, m3_B=shift_B + self.margin_fraction * self.m)

    def update_state(self, cos_B: torch.Tensor, norm_B: torch.Tensor, negatives_lse_B: torch.Tensor) -> None:
        """Updates the mean and the standard deviation."""
        std, mean = torch.std_mean(_clipped(norm_B))
        self.norm_mean.lerp_(mean.to(self.norm_mean.dtype), 1 - self.momentum)
        self.norm_std.lerp_(std.to(self.norm_std.dtype), 1 - self.momentum)


def _clipped(norm_B: torch.Tensor) -> torch.Tensor:
    return norm_B.detach().clamp(1e-3, 100)
