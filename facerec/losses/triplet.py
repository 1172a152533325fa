"""Triplet loss on angles: an embedding is closer to its own identity than to any other, by a margin.

Letters: B samples of a micro-batch.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from facerec.core.errors import ConfigError
from facerec.losses.angular_terms import angle_rad
from facerec.losses.term import Term, TermInputs

Mining = Literal["batch_hard", "semi_hard"]


class Triplet(Term):
    """The mean of max(0, theta_pos + margin_rad - theta_neg) over the triplets mined in a micro-batch.

    theta_pos and theta_neg are the angles of an anchor to another image of its identity and to an image of another
    identity: arccos(x_pos . x) + m <= arccos(x_neg . x) of arXiv 1801.07698, as a hinge.

    Args:
        weight: the coefficient in the objective.
        margin_rad: m in radians.
        mining: "batch_hard": for every anchor its farthest positive and its nearest negative (arXiv 1703.07737).
            "semi_hard": for every pair of an anchor and a positive, the nearest of the negatives that are farther than
            the positive, or the farthest negative if there is none (arXiv 1503.03832).

    Raises:
        ConfigError: the margin is not within (0, pi), or the mining is unknown.
    """

    def __init__(self, *, weight: float = 1.0, margin_rad: float = 0.35, mining: Mining = "batch_hard") -> None:
        super().__init__(weight=weight)
        if not 0 < margin_rad < math.pi:
            raise ConfigError(f"margin_rad={margin_rad} for Triplet; expected radians in 0 .. pi, for example 0.35")
        if mining not in get_args(Mining):
            raise ConfigError(f"mining={mining!r} for Triplet; expected one of {', '.join(get_args(Mining))}")
        self.margin_rad = margin_rad
        self.mining = mining
        self._without_triplets: list[torch.Tensor] = []

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Returns a scalar in radians; its gradient reaches the embeddings.

        Raises:
            ConfigError: the micro-batch has no two images of one identity, or only one identity.
        """
        labels_B = inputs.labels_B
        emb_BD = F.normalize(inputs.emb_BD, dim=1)
        cos_BB = emb_BD @ emb_BD.T
        negative_BB = labels_B[:, None] != labels_B
        positive_BB = ~negative_BB
        positive_BB.fill_diagonal_(False)
        usable_B = positive_BB.any(dim=1) & negative_BB.any(dim=1)
        self._without_triplets.append(~usable_B.any())
        if labels_B.device.type == "cpu":
            self._look()
        if self.mining == "batch_hard":
            cos_pos = cos_BB.masked_fill(~positive_BB, math.inf).min(dim=1).values
            cos_neg = cos_BB.masked_fill(~negative_BB, -math.inf).max(dim=1).values
            is_triplet = usable_B
        else:
            cos_pos, cos_neg = cos_BB, cos_BB.gather(1, _semi_hard_negatives(cos_BB.detach(), negative_BB))
            is_triplet = positive_BB
        hinge = (angle_rad(cos_pos) + self.margin_rad - angle_rad(cos_neg)).clamp(min=0)
        return hinge.where(is_triplet, 0).sum() / is_triplet.sum().clamp(min=1)

    def start_step(self, step: int) -> None:
        """Checks for triplets; on a GPU one step late, so that training does not wait for the result."""
        self._look()

    def _look(self) -> None:
        flags, self._without_triplets = self._without_triplets, []
        if flags and bool(torch.stack(flags).any()):
            raise ConfigError(
                "a micro-batch without a triplet: no two of its images show one identity, or all of them do. Draw "
                "identities with several images each, for example data.images_per_identity=4, in a micro-batch "
                "(trainer.micro_batch_size) that is a larger multiple of it"
            )

    def extra_repr(self) -> str:
        return f"weight={self.weight}, margin_rad={self.margin_rad}, mining={self.mining}"


def _semi_hard_negatives(cos_BB: torch.Tensor, negative_BB: torch.Tensor) -> torch.Tensor:
    """Returns for anchor a and any sample p the nearest negative of a that is farther than p, or the farthest of all:
    int64 (B, B). Arbitrary for anchors without a negative.
    """
    # ascending angles; other samples of the anchor's identity come after all negatives
    far_BB, negatives_BB = (-cos_BB).masked_fill(~negative_BB, math.inf).sort(dim=1)
    rank_BB = torch.searchsorted(far_BB, -cos_BB, right=True)
    last_B1 = negative_BB.sum(dim=1, keepdim=True).sub(1).clamp(min=0)
    return negatives_BB.gather(1, rank_BB.minimum(last_B1))
