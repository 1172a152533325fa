"""CurricularFace (arXiv 2004.00288)."""

from typing import Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import BeyondPi, CombinedMargin, Gradient
from facerec.heads.options import HeadOptions


class CurricularFaceHead(Head):
    """ArcFace's target; a negative with cos theta_j > cos(theta_y + m) counts as cos theta_j (t + cos theta_j).

    t follows the mean target cosine, so that hard negatives have little weight at first and much more later.

    Args:
        m: margin in radians.
        momentum: momentum of t: t <- momentum t + (1 - momentum) mean cos theta_y of the global batch, after each step.
        beyond_pi, gradient: options of the target, see `CombinedMargin`.
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    t: torch.Tensor

    def __init__(
        self,
        *,
        m: float = 0.5,
        momentum: float = 0.99,
        beyond_pi: BeyondPi = "monotone",
        gradient: Gradient = "exact",
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(**options)
        if not 0 <= momentum <= 1:
            raise ConfigError(f"head.momentum is {momentum}; expected 0 .. 1")
        self.margin = CombinedMargin(m2=m, beyond_pi=beyond_pi, gradient=gradient)
        self.momentum = momentum
        self.register_buffer("t", torch.zeros(()))

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi(c) = cos(theta + m)."""
        return self.margin.scaled(self.margin_fraction).target(cos_B)

    def negatives(self, cos_BC: torch.Tensor, cos_target_B: torch.Tensor) -> torch.Tensor:
        """Computes g, see the class."""
        angle_B = cos_target_B.detach().clamp(-1, 1).acos() + self.margin_fraction * self.margin.m2
        # 1 without a margin, t + cos with the whole margin
        weight_BC = 1 + self.margin_fraction * (self.t - 1 + cos_BC)
        return torch.where(cos_BC > angle_B.cos()[:, None], cos_BC * weight_BC, cos_BC)

    def update_state(self, cos_B: torch.Tensor, norm_B: torch.Tensor, negatives_lse_B: torch.Tensor) -> None:
        """Moves t."""
        self.t.lerp_(cos_B.mean().to(self.t.dtype), 1 - self.momentum)
