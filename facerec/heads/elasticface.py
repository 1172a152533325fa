"""ElasticFace: margins drawn at random for every sample (arXiv 2109.09416)."""

from typing import Literal, Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import BeyondPi, CombinedMargin, Gradient
from facerec.heads.options import HeadOptions


class ElasticFaceHead(Head):
    """ArcFace or CosFace with a margin drawn from N(m, std^2) for every sample in training, else m.

    The draws come from torch's default generator, which the trainer seeds for every micro-batch.

    Args:
        kind: "arc" (cos(theta + m)) or "cos" (cos theta - m).
        m: mean of the margin.
        std: its standard deviation: 0.05 in the released configurations; 0.0175 (arc) and 0.02 (cos) with plus.
        plus: give the larger margins of the micro-batch to the smaller angles (ElasticFace+).
        beyond_pi, gradient: see `CombinedMargin`.
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        kind: Literal["arc", "cos"] = "arc",
        m: float = 0.5,
        std: float = 0.05,
        plus: bool = False,
        beyond_pi: BeyondPi = "monotone",
        gradient: Gradient = "exact",
        **options: Unpack[HeadOptions],
    ) -> None:
        super().__init__(**options)
        if std < 0:
            raise ConfigError(f"head.std is {std}; expected 0 or more, 0.05 in the released configurations")
        self.kind, self.m, self.std, self.plus = kind, m, std, plus
        self.margin = CombinedMargin(m2=m if kind == "arc" else 0.0, beyond_pi=beyond_pi, gradient=gradient)

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi, see the class."""
        m_B = torch.full_like(cos_B, self.m)
        if self.training:
            # fp32 for every dtype, so that the draws are the same
            m_B += self.std * torch.randn_like(cos_B, dtype=torch.float32).to(cos_B.dtype)
        if self.training and self.plus:
            rank_B = cos_B.detach().argsort(descending=True).argsort()  # 0: the smallest angle
            m_B = m_B.sort(descending=True).values[rank_B]
        m_B *= self.margin_fraction
        return self.margin.target(cos_B, m2_B=m_B) if self.kind == "arc" else self.margin.target(cos_B, m3_B=m_B)
