"""The head with the combined margin: ArcFace, CosFace, SphereFace, CM1, CM2, NS (arXiv 1801.07698)."""

import math
from typing import Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import BeyondPi, CombinedMargin, Gradient
from facerec.heads.options import HeadOptions


class MarginHead(Head):
    """The combined margin cos(m1 theta + m2) - m3 on the target: ArcFace, CosFace, SphereFace, CM1, CM2, NS.

    Args:
        m1, m2, m3, beyond_pi, gradient: see `CombinedMargin`.
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range; or beyond_pi="linear" with margins for which the fallback is above
            the curve that it continues.
    """

    def __init__(
        self,
        *,
        m1: float = 1.0,
        m2: float = 0.0,
        m3: float = 0.0,
        beyond_pi: BeyondPi = "monotone",
        gradient: Gradient = "exact",
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(**options)
        self.margin = CombinedMargin(m1=m1, m2=m2, m3=m3, beyond_pi=beyond_pi, gradient=gradient)
        _check_fallback(self.margin)

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi(c) = cos(m1 theta + m2) - m3."""
        return self.margin.scaled(self.margin_fraction).target(cos_B)

    def extra_repr(self) -> str:
        return f"{self.margin}, scale={self.scale}"


def _check_fallback(margin: CombinedMargin) -> None:
    """Refuses beyond_pi="linear" if psi would jump up at m1 theta + m2 = pi and reward the wrong side."""
    start_rad = (math.pi - margin.m2) / margin.m1
    if margin.beyond_pi != "linear" or not 0 <= start_rad <= math.pi:
        return
    jump = math.cos(start_rad) - margin.m2 * math.sin(margin.m2) + 1
    if jump > 1e-9:
        raise ConfigError(
            f"head.beyond_pi is 'linear' with m1={margin.m1}, m2={margin.m2}: the target logit would jump up by "
            f"{jump:.3f} at {math.degrees(start_rad):.0f} degrees; use head.beyond_pi=monotone, or m1=1"
        )
