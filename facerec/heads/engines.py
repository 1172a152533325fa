"""Engines: embeddings, class centres and a margin in; the margin-softmax loss out. Here the dense reference.

Letters: B samples, C classes, D embedding dimensions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from facerec.heads.margins import CombinedMargin


@dataclass(frozen=True, kw_only=True)
class EngineOutput:
    """What every engine returns, in the precision it computed in (fp32, or fp64 for fp64 inputs).

    Attributes:
        loss: scalar, the mean over the samples, with gradient.
        target_cos_B: (B,), what the margin was given for the target, detached: the target cosine, or without
            normalisation the target's logit.
        sample_losses_B: (B,), detached.
    """

    loss: torch.Tensor
    target_cos_B: torch.Tensor
    sample_losses_B: torch.Tensor


def dense(
    emb_BD: torch.Tensor,
    weight_CD: torch.Tensor,
    labels_B: torch.Tensor,
    *,
    margin: CombinedMargin,
    scale: float,
    bias: torch.Tensor | None = None,
    normalise: bool = True,
) -> EngineOutput:
    """The margin softmax with the whole (B, C) matrix of cosines in memory.

    With t = scale * psi(c_y) and z_j = scale * g(c_j, c_y): L = softplus(logsumexp_{j != y} z_j - t). The target's
    column is masked, not subtracted from a full log-sum-exp, which would lose L in fp32 where t stands far above
    the rest. The target cosine is a row-wise dot product of its own, because entries of a matrix product differ
    in the last bits from one kernel to the next. Computes in fp32 at least, under autocast too; only the product
    with the negatives follows torch's float32 matmul precision.

    Args:
        emb_BD: embeddings (B, D), any floating type.
        weight_CD: class centres (C, D), C >= 2.
        labels_B: int64 (B,), in 0 .. C - 1 (not checked here).
        margin: psi and g.
        scale: s, > 0.
        bias: added to the products, (C,).
        normalise: divide embeddings and centres by their L2 norms. Without it "cosines" are plain products, and
            the margin must not act on the angle (m1 = 1, m2 = 0).
    """
    dtype = torch.promote_types(torch.promote_types(emb_BD.dtype, weight_CD.dtype), torch.float32)
    with torch.autocast(device_type=emb_BD.device.type, enabled=False):
        emb_BD, weight_CD = emb_BD.to(dtype), weight_CD.to(dtype)
        if normalise:
            emb_BD, weight_CD = F.normalize(emb_BD, dim=1), F.normalize(weight_CD, dim=1)
        cos_target_B = (emb_BD * weight_CD[labels_B]).sum(dim=1)
        if bias is None:
            cos_BC = emb_BD @ weight_CD.T
        else:
            bias_C = bias.to(dtype)
            cos_target_B = cos_target_B + bias_C[labels_B]
            cos_BC = torch.addmm(bias_C, emb_BD, weight_CD.T)
        target_B = scale * margin.target(cos_target_B)
        negatives_BC = scale * margin.negatives(cos_BC, cos_target_B)
        del cos_BC  # one (B, C) matrix less while the log-sum-exp makes its own
        negatives_BC.scatter_(1, labels_B[:, None], -torch.inf)
        margin_gap_B = negatives_BC.logsumexp(dim=1) - target_B
        # softplus as logaddexp: torch's softplus has a threshold that costs 1e-10 in fp64
        losses_B = torch.logaddexp(margin_gap_B, torch.zeros_like(margin_gap_B))
        return EngineOutput(loss=losses_B.mean(), target_cos_B=cos_target_B.detach(), sample_losses_B=losses_B.detach())
