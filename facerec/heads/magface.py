"""MagFace: the embedding's norm as the quality of the image (arXiv 2103.06627)."""

from typing import Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import BeyondPi, CombinedMargin, Gradient
from facerec.heads.options import HeadOptions


class MagFaceHead(Head):
    """psi = cos(theta + m(a)), plus the penalty lambda_g (a / u_a^2 + 1 / a); a is the norm, clamped to [l_a, u_a].

    m(a) is the line from (l_a, l_m) to (u_a, u_m). Its gradient changes the norms.

    Args:
        l_a, u_a: range of the norms.
        l_m, u_m: range of the margin in radians.
        lambda_g: weight of the penalty, which favours large norms.
        beyond_pi, gradient: see `CombinedMargin`; gradient="straight_through" applies to the cosine, not to m(a).
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_m: float = 0.45,
        u_m: float = 0.8,
        lambda_g: float = 35.0,
        beyond_pi: BeyondPi = "monotone",
        gradient: Gradient = "exact",
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(**options)
        if not 0 < l_a < u_a:
            raise ConfigError(f"head.l_a is {l_a}, head.u_a is {u_a}; expected 0 < l_a < u_a, 10 and 110 in the paper")
        if lambda_g < 0:
            raise ConfigError(f"head.lambda_g is {lambda_g}; expected 0 or more")
        self.l_a, self.u_a, self.l_m, self.u_m, self.lambda_g = l_a, u_a, l_m, u_m, lambda_g
        self.margin = CombinedMargin(m2=u_m, beyond_pi=beyond_pi, gradient=gradient)  # m2 is set per sample

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi, see the class."""
        slope = (self.u_m - self.l_m) / (self.u_a - self.l_a)
        m_B = self.l_m + slope * (norm_B.clamp(self.l_a, self.u_a) - self.l_a)
        return self.margin.target(cos_B, m2_B=self.margin_fraction * m_B)

    def penalty(self, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes lambda_g g(a)."""
        length_B = norm_B.clamp(self.l_a, self.u_a)
        return self.lambda_g * (length_B / self.u_a**2 + 1 / length_B)
