"""MV-Softmax: support vector guided softmax (arXiv 1912.00833)."""

from typing import Literal, Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import CombinedMargin, Gradient
from facerec.heads.options import HeadOptions


class MVSoftmaxHead(Head):
    """A negative above the target with its margin becomes t cos theta_j + t - 1.

    The target is ArcFace's cos(theta + m) if cos theta > 0, or CosFace's cos theta - m if cos theta > m; else it is
    cos theta, so psi has a jump and is not monotone.

    Args:
        kind: "arc" or "cos".
        m: the margin, radians for arc.
        t: factor that raises misclassified negatives, at least 1.
        gradient: option of the target, see `CombinedMargin`.
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        kind: Literal["arc", "cos"] = "arc",
        m: float = 0.5,
        t: float = 1.12,
        gradient: Gradient = "exact",
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(**options)
        if t < 1:
            raise ConfigError(f"head.t is {t}; expected at least 1 (nothing is raised), 1.12 in the paper")
        if kind == "arc":
            self.margin = CombinedMargin(m2=m, gradient=gradient)
        else:
            self.margin = CombinedMargin(m3=m, gradient=gradient)
        self.t = t

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi, see the class."""
        margin = self.margin.scaled(self.margin_fraction)
        return torch.where(cos_B > margin.m3, margin.target(cos_B), cos_B)

    def negatives(self, cos_BC: torch.Tensor, cos_target_B: torch.Tensor) -> torch.Tensor:
        """Computes g, see the class."""
        t = 1 + self.margin_fraction * (self.t - 1)
        margined_B = self.target(cos_target_B.detach(), cos_target_B)
        return torch.where(cos_BC > margined_B[:, None], t * cos_BC + t - 1, cos_BC)
