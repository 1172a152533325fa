"""The combined margin as a pure function of the target cosine, with the exact gradient.

Letters: B samples.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from facerec.core.errors import ConfigError

BeyondPi = Literal["monotone", "linear", "none", "clip"]
Gradient = Literal["exact", "straight_through"]

MIN_SIN = 1e-3
"""Minimum of sin(theta) in the gradient's denominator; keeps d psi / d cos of ArcFace(0.5) near 480 at cos = 1."""

MIN_ANGLE_RAD = 1e-3
"""Distance that beyond_pi="clip" keeps the angle from 0 and pi (the value of AdaFace's paper)."""


def clamped_sin(cos: torch.Tensor) -> torch.Tensor:
    """Returns sin(theta) of cosines in [-1, 1], any shape, at least `MIN_SIN`."""
    # Near +-1, 1 - c^2 would lose half of the digits that (1 - c)(1 + c) keeps.
    return ((1 - cos) * (1 + cos)).sqrt().clamp(min=MIN_SIN)


@dataclass(frozen=True, kw_only=True)
class CombinedMargin:
    """psi(cos theta) = cos(m1 theta + m2) - m3 on the target (arXiv 1801.07698, eq. 4).

    With m1 = 1 and m2 = 0, psi is cos - m3 for any number, so it can also be applied to logits that are not cosines.
    Otherwise the cosine is clamped to [-1, 1]. Values are exact everywhere. The gradient is the exact
    m1 sin(m1 theta + m2) / sin theta, with sin theta in the denominator clamped at `MIN_SIN`, so it is finite at
    cos = +-1.

    Args:
        m1: factor on the angle (SphereFace), > 0.
        m2: margin added to the angle in radians (ArcFace).
        m3: margin subtracted from the cosine (CosFace).
        beyond_pi: psi where u = m1 theta + m2 leaves [0, pi] and cos(u) would rise again.
            "monotone": (-1)^k cos(u) - 2k - m3 with k = floor(u / pi), continuous with its derivative.
            "linear": cos theta - m2 sin(m2) - m3 beyond pi, the fallback of InsightFace's MXNet code.
            "clip": u is clipped to [1e-3, pi - 1e-3], without gradient outside (arXiv 2204.00964, AdaFace).
            "none": cos(u) - m3, unguarded.
        gradient: "exact", or "straight_through": d psi / d cos = 1 everywhere, as in arcface_torch, which computes
            the margin without recording it; its published figures were reached with it.

    Raises:
        ConfigError: m1 is not positive, m2 is not within [-pi, pi], m3 is not finite, or a name is unknown.
    """

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0
    beyond_pi: BeyondPi = "monotone"
    gradient: Gradient = "exact"

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
        if self.gradient not in get_args(Gradient):
            raise ConfigError(f"head.gradient is {self.gradient!r}; expected one of {', '.join(get_args(Gradient))}")

    def target(
        self, cos_B: torch.Tensor, *, m2_B: torch.Tensor | None = None, m3_B: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Computes psi of the target cosines (B,), in fp32 or the input's wider type.

        Args:
            cos_B: target cosines.
            m2_B, m3_B: margins per sample instead of m2 and m3; they get a gradient.
        """
        cos_B = cos_B.to(torch.promote_types(cos_B.dtype, torch.float32))
        angular_B = cos_B if m2_B is None and self.m1 == 1 and self.m2 == 0 else self._angular(cos_B, m2_B)
        return angular_B - (self.m3 if m3_B is None else m3_B)

    def scaled(self, fraction: float) -> "CombinedMargin":
        """Returns this margin at `fraction` of its strength, for margin ramp-up: 0 is no margin, 1 is this margin."""
        if fraction == 1:  # 1 + (m1 - 1) may round
            return self
        return replace(self, m1=1 + fraction * (self.m1 - 1), m2=fraction * self.m2, m3=fraction * self.m3)

    def _angular(self, cos_B: torch.Tensor, m2_B: torch.Tensor | None) -> torch.Tensor:
        m2 = cos_B.new_full((), self.m2) if m2_B is None else m2_B.to(cos_B.dtype)
        return _AngularMargin.apply(cos_B, m2, self)


class _AngularMargin(torch.autograd.Function):
    """cos(m1 theta + m2) with closed-form derivatives, because autograd through acos divides 0 by 0 at cos = +-1."""

    @staticmethod
    def forward(cos_B: torch.Tensor, m2: torch.Tensor, margin: CombinedMargin) -> torch.Tensor:
        cos_B = cos_B.clamp(-1, 1)
        angle_B = margin.m1 * cos_B.acos() + m2
        if margin.beyond_pi == "clip":
            return angle_B.clamp(MIN_ANGLE_RAD, math.pi - MIN_ANGLE_RAD).cos()
        value_B = angle_B.cos()
        if margin.beyond_pi == "monotone":
            half_turns_B = (angle_B / math.pi).floor()
            value_B = torch.where(half_turns_B % 2 == 0, value_B, -value_B) - 2 * half_turns_B
        elif margin.beyond_pi == "linear":
            value_B = torch.where(angle_B > math.pi, cos_B - m2 * m2.sin(), value_B)
        return value_B

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, CombinedMargin], output: Any) -> None:
        cos_B, m2, ctx.margin = inputs
        ctx.save_for_backward(cos_B, m2)

    @staticmethod
    def backward(ctx: Any, grad_B: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        cos_B, m2 = ctx.saved_tensors
        margin: CombinedMargin = ctx.margin
        cos_B = cos_B.clamp(-1, 1)
        angle_B = margin.m1 * cos_B.acos() + m2
        by_angle_B = -angle_B.sin()  # d value / d angle
        if margin.beyond_pi == "monotone":
            by_angle_B = -by_angle_B.abs()
        elif margin.beyond_pi == "clip":
            inside_B = (angle_B > MIN_ANGLE_RAD) & (angle_B < math.pi - MIN_ANGLE_RAD)
            by_angle_B = by_angle_B * inside_B
        sin_B = clamped_sin(cos_B)
        by_cos_B, by_m2_B = -margin.m1 * by_angle_B / sin_B, by_angle_B
        if margin.beyond_pi == "linear":
            by_cos_B = torch.where(angle_B > math.pi, torch.ones_like(cos_B), by_cos_B)
            by_m2_B = torch.where(angle_B > math.pi, -m2.sin() - m2 * m2.cos(), by_m2_B)
        if margin.gradient == "straight_through":
            by_cos_B = torch.ones_like(cos_B)
        return grad_B * by_cos_B, (grad_B * by_m2_B if ctx.needs_input_grad[1] else None), None
