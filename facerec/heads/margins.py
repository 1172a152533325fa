"""Margins: pure functions of cosines, with the exact gradient.

Letters: B samples, C classes.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from facerec.core.errors import ConfigError

BeyondPi = Literal["monotone", "linear", "none"]

MIN_SIN = 1e-3
"""Floor of sin(theta) where the gradient divides by it; keeps d psi / d cos of ArcFace(0.5) near 480 at cos = 1."""


@dataclass(frozen=True, kw_only=True)
class CombinedMargin:
    """psi(cos theta) = cos(m1 theta + m2) - m3 on the target, nothing on the negatives (arXiv 1801.07698, eq. 4).

    With m1 = 1 and m2 = 0 psi is cos - m3 for any number, so it can also act on logits that are no cosines.
    Otherwise the cosine is clamped to [-1, 1]. Values are exact everywhere. The gradient is the exact
    m1 sin(m1 theta + m2) / sin theta, with sin theta in the denominator clamped at `MIN_SIN`, so it is finite at
    cos = +-1.

    Args:
        m1: factor on the angle (SphereFace), > 0.
        m2: margin added to the angle in radians (ArcFace).
        m3: margin subtracted from the cosine (CosFace).
        beyond_pi: what psi is where u = m1 theta + m2 leaves [0, pi] and cos(u) would turn back.
            "monotone": (-1)^k cos(u) - 2k - m3 with k = floor(u / pi), continuous with its derivative.
            "linear": cos theta - m2 sin(m2) - m3 beyond pi, the fallback of InsightFace's MXNet code.
            "none": cos(u) - m3, unguarded.

    Raises:
        ConfigError: m1 is not positive, m2 is not within [-pi, pi], m3 is not finite, or beyond_pi is unknown.
    """

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0
    beyond_pi: BeyondPi = "monotone"

    def __post_init__(self) -> None:
        if not (self.m1 > 0 and math.isfinite(self.m1)):
            raise ConfigError(f"head.m1 is {self.m1}; expected a positive factor on the angle, 1 for none")
        if not abs(self.m2) <= math.pi:
            raise ConfigError(
                f"head.m2 is {self.m2}; expected radians within [-pi, pi], for example 0.5 (degrees times pi / 180)"
            )
        if not math.isfinite(self.m3):
            raise ConfigError(f"head.m3 is {self.m3}; expected a finite number, for example 0.35")
        if self.beyond_pi not in get_args(BeyondPi):
            raise ConfigError(f"head.beyond_pi is {self.beyond_pi!r}; expected one of {', '.join(get_args(BeyondPi))}")

    def target(self, cos_B: torch.Tensor) -> torch.Tensor:
        """psi of the target cosines: any shape -> same shape, in fp32 or the input's wider type."""
        cos_B = cos_B.to(torch.promote_types(cos_B.dtype, torch.float32))
        if not self._acts_on_angle:
            return cos_B - self.m3
        return _ExactGradient.apply(cos_B, self)

    def negatives(self, cos_BC: torch.Tensor, cos_target_B: torch.Tensor) -> torch.Tensor:
        """g of the negative cosines (B, C), given the target cosines (B,): the identity, no copy."""
        return cos_BC

    def scaled(self, fraction: float) -> "CombinedMargin":
        """This margin at `fraction` of its strength: 0 is no margin, 1 is this one. For margin ramp-up."""
        if fraction == 1:  # 1 + (m1 - 1) may round
            return self
        return replace(self, m1=1 + fraction * (self.m1 - 1), m2=fraction * self.m2, m3=fraction * self.m3)

    @property
    def _acts_on_angle(self) -> bool:
        return self.m1 != 1 or self.m2 != 0

    def _value(self, cos_B: torch.Tensor) -> torch.Tensor:
        cos_B = cos_B.clamp(-1, 1)
        angle_B = self.m1 * cos_B.acos() + self.m2
        value_B = angle_B.cos()
        if self.beyond_pi == "monotone":
            half_turns_B = (angle_B / math.pi).floor()
            value_B = torch.where(half_turns_B % 2 == 0, value_B, -value_B) - 2 * half_turns_B
        elif self.beyond_pi == "linear":
            value_B = torch.where(angle_B > math.pi, cos_B - self.m2 * math.sin(self.m2), value_B)
        return value_B - self.m3

    def _slope(self, cos_B: torch.Tensor) -> torch.Tensor:
        cos_B = cos_B.clamp(-1, 1)
        angle_B = self.m1 * cos_B.acos() + self.m2
        # near +-1, 1 - c^2 would lose half of the digits that (1 - c)(1 + c) keeps
        sin_B = ((1 - cos_B) * (1 + cos_B)).sqrt().clamp(min=MIN_SIN)
        slope_B = self.m1 * angle_B.sin() / sin_B
        if self.beyond_pi == "monotone":
            slope_B = slope_B.abs()
        elif self.beyond_pi == "linear":
            slope_B = torch.where(angle_B > math.pi, torch.ones_like(slope_B), slope_B)
        return slope_B


class _ExactGradient(torch.autograd.Function):
    """psi with its closed-form derivative: autograd through acos divides 0 by 0 at cos = +-1."""

    @staticmethod
    def forward(cos_B: torch.Tensor, margin: CombinedMargin) -> torch.Tensor:
        return margin._value(cos_B)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, CombinedMargin], output: torch.Tensor) -> None:
        cos_B, ctx.margin = inputs
        ctx.save_for_backward(cos_B)

    @staticmethod
    def backward(ctx: Any, grad_B: torch.Tensor) -> tuple[torch.Tensor, None]:
        (cos_B,) = ctx.saved_tensors
        return grad_B * ctx.margin._slope(cos_B), None
