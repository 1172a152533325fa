"""AdaCos: a softmax on cosines that sets its own scale (arXiv 1905.00292)."""

import math
from typing import Unpack

import torch

from facerec.heads.head import Head
from facerec.heads.options import UnscaledOptions


class AdaCosHead(Head):
    """No margin; the scale adapts to the angles: s = ln(mean of B_i) / cos(min(pi / 4, median of theta_y)).

    B_i = sum_{j != y} exp(s cos theta_j), with the scale of the step. The paper updates the scale before it computes
    the loss of a batch; here a step's loss uses the old scale, which is updated once at the end of the step, from the
    whole global batch. It starts at sqrt(2) ln(C - 1).

    Args:
        options: see `UnscaledOptions`.
    """

    adaptive_scale: torch.Tensor

    def __init__(self, **options: Unpack[UnscaledOptions]) -> None:
        super().__init__(scale=1.0, **options)
        # With two classes ln(C - 1) is 0, and with a scale of 0 nothing would be learned.
        start = max(1.0, math.sqrt(2) * math.log(self.centres.num_classes - 1))
        self.register_buffer("adaptive_scale", torch.tensor(start))

    def logit_scale(self, norm_B: torch.Tensor) -> torch.Tensor:
        """Returns the current s."""
        return self.adaptive_scale

    def update_state(self, cos_B: torch.Tensor, norm_B: torch.Tensor, negatives_lse_B: torch.Tensor) -> None:
        """Updates the scale."""
        log_mean = negatives_lse_B.logsumexp(dim=0) - math.log(len(negatives_lse_B))
        angle = cos_B.clamp(-1, 1).acos().median().clamp(max=math.pi / 4)
        self.adaptive_scale.copy_((log_mean / angle.cos()).clamp(min=1.0))
