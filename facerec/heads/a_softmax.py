"""A-Softmax: the original SphereFace (arXiv 1704.08063)."""

from typing import Unpack

import torch

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.margins import CombinedMargin, Gradient
from facerec.heads.options import UnscaledOptions


class ASoftmaxHead(Head):
    """psi = (lambda cos theta + phi(theta)) / (1 + lambda), with the embedding's norm as the scale.

    phi(theta) = (-1)^k cos(m theta) - 2k on [k pi / m, (k + 1) pi / m]. lambda decreases with the step from
    lambda_start to lambda_min, so that the margin grows. m = 1 is the modified softmax ||x|| cos theta.

    Args:
        m: factor on the angle, a whole number in the paper (4).
        lambda_start, lambda_decay, lambda_min: lambda = max(lambda_min, lambda_start / (1 + lambda_decay * step)).
        gradient: see `CombinedMargin`.
        options: see `UnscaledOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        m: float = 4.0,
        lambda_start: float = 1500.0,
        lambda_decay: float = 0.1,
        lambda_min: float = 5.0,
        gradient: Gradient = "exact",
        **options: Unpack[UnscaledOptions],
    ) -> None:
        super().__init__(scale=1.0, **options)
        if m < 1:
            raise ConfigError(f"head.m is {m}; expected a factor on the angle of at least 1, 4 in the paper")
        for name, value in {"start": lambda_start, "decay": lambda_decay, "min": lambda_min}.items():
            if value < 0:
                raise ConfigError(f"head.lambda_{name} is {value}; expected 0 or more")
        self.phi = CombinedMargin(m1=m, gradient=gradient)
        self.lambda_start, self.lambda_decay, self.lambda_min = lambda_start, lambda_decay, lambda_min
        self.blend = lambda_start

    def start(self, step: int) -> None:
        """Sets lambda."""
        self.blend = max(self.lambda_min, self.lambda_start / (1 + self.lambda_decay * step))

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi, see the class."""
        return cos_B + self.margin_fraction / (1 + self.blend) * (self.phi.target(cos_B) - cos_B)

    def logit_scale(self, norm_B: torch.Tensor) -> torch.Tensor:
        """Returns the embedding's norm, with its gradient."""
        return norm_B
