"""Engines: embeddings, class centres and negatives' function in; target cosines and log-sum-exp out.

All engines have the one interface `Engine`; here it stands, with the dense reference.

Letters: B samples, C classes, K sub-centres per class, D embedding dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F

from facerec.processes.group import ALONE, Processes

Negatives = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""g: (cos_BC, cos_target_B) -> (B, C). Each entry is a function of its own cosine and of the sample's target cosine."""

MIN_NORM = 1e-12
"""Centres shorter than this are divided by it instead of by their length, as torch's normalize does."""


@dataclass(frozen=True, kw_only=True)
class InterClassFilter:
    """Negatives whose cosine is above a threshold are probably the same person under another label.

    Args:
        mode: "drop" leaves them out of the sum; "zero" sets their logit to 0, as arcface_torch does.
        threshold: the cosine.
    """

    mode: Literal["drop", "zero"]
    threshold: float

    def finds(self, cos_BC: torch.Tensor) -> torch.Tensor:
        """bool, the shape of the cosines."""
        return cos_BC.detach() > self.threshold


@dataclass(frozen=True, kw_only=True)
class EngineInput:
    """What every engine takes.

    Attributes:
        emb_BD: (B, D), fp32 or fp64; of length 1 when `normalise`.
        weight_RD: class centres (C * K, D), the K sub-centres of a class next to each other.
        labels_B: int64 (B,), in 0 .. C - 1 (not checked here); -1 where another process has the sample's class.
        scale: factor on the logits, a number, a scalar tensor or (B,); a gradient flows to a tensor.
        negatives: g, or None for the identity.
        bias_C: added to the products, or None.
        normalise: divide centres by their length. Without it "cosines" are plain products.
        num_sub_centres: K; the cosine to a class is the largest among its sub-centres.
        inter_class_filter: or None.
        wants_logit_sum: whether the sum of the negatives' logits is needed.
        processes: those that have the other classes; all are given the same samples.
    """

    emb_BD: torch.Tensor
    weight_RD: torch.Tensor
    labels_B: torch.Tensor
    scale: float | torch.Tensor
    negatives: Negatives | None = None
    bias_C: torch.Tensor | None = None
    normalise: bool = True
    num_sub_centres: int = 1
    inter_class_filter: InterClassFilter | None = None
    wants_logit_sum: bool = False
    processes: Processes = ALONE

    @property
    def scale_B1(self) -> float | torch.Tensor:
        """The scale in a shape that multiplies (B, C)."""
        return self.scale[:, None] if isinstance(self.scale, torch.Tensor) and self.scale.ndim else self.scale

    @property
    def num_classes(self) -> int:
        """C."""
        return self.weight_RD.shape[0] // self.num_sub_centres


@dataclass(frozen=True, kw_only=True)
class EngineOutput:
    """What every engine returns, fp32 or fp64 as the embeddings, with gradients.

    Attributes:
        target_cos_B: the cosine to the own class, wherever that is; without normalisation the target's logit.
        negatives_lse_B: log of the sum of exp(logit) over all other classes given; finite where none is left.
        logit_sum_B: the sum of the logits of all other classes given, or None.
    """

    target_cos_B: torch.Tensor
    negatives_lse_B: torch.Tensor
    logit_sum_B: torch.Tensor | None


class Engine(Protocol):
    """From `EngineInput` to `EngineOutput`."""

    def __call__(self, given: EngineInput) -> EngineOutput: ...


def target_cosines(given: EngineInput) -> torch.Tensor:
    """(B,): row-wise products of the embeddings with the centres of their own classes.

    Entries of a matrix product differ in the last bits from one kernel to the next, and near theta = 0 the margin's
    gradient makes 1e-4 of that. So all engines take the target's cosine from here.
    """
    if given.num_classes == 0:
        return given.processes.sum_with_gradient(given.emb_BD.sum(dim=1) * 0)
    num_sub, dim = given.num_sub_centres, given.weight_RD.shape[1]
    labels_B = given.labels_B.clamp(min=0)
    own_BKD = given.weight_RD.view(-1, num_sub, dim)[labels_B].to(given.emb_BD.dtype)
    if given.normalise:
        own_BKD = F.normalize(own_BKD, dim=2, eps=MIN_NORM)
    cos_B = (given.emb_BD[:, None] * own_BKD).sum(dim=2).amax(dim=1)
    if given.bias_C is not None:
        cos_B = cos_B + given.bias_C.to(cos_B.dtype)[labels_B]
    return given.processes.sum_with_gradient(cos_B.masked_fill(given.labels_B < 0, 0.0))


def dense(given: EngineInput) -> EngineOutput:
    """The reference: the whole (B, C) matrix of cosines in memory, differentiated by autograd.

    The target's column is masked, not subtracted from a full log-sum-exp, which would lose the loss in fp32 where
    the target stands far above the rest.
    """
    emb_BD, dtype = given.emb_BD, given.emb_BD.dtype
    lowest = torch.finfo(dtype).min  # not -inf: a row of nothing else would have a gradient of NaN
    if given.num_classes == 0:
        none_B = emb_BD.sum(dim=1) * 0
        return EngineOutput(
            target_cos_B=target_cosines(given),
            negatives_lse_B=none_B + lowest,
            logit_sum_B=none_B if given.wants_logit_sum else None,
        )
    weight_RD = given.weight_RD.to(dtype)
    if given.normalise:
        weight_RD = F.normalize(weight_RD, dim=1, eps=MIN_NORM)
    cos_target_B = target_cosines(given)
    cos_BC = emb_BD @ weight_RD.T
    if given.num_sub_centres > 1:
        cos_BC = cos_BC.view(len(cos_BC), -1, given.num_sub_centres).amax(dim=2)
    if given.bias_C is not None:
        cos_BC = cos_BC + given.bias_C.to(dtype)
    logits_BC = given.scale_B1 * (given.negatives(cos_BC, cos_target_B) if given.negatives else cos_BC)
    if (filtered := given.inter_class_filter) is not None:
        filtered_BC = filtered.finds(cos_BC) if given.normalise else filtered.finds(_true_cosines(given))
        logits_BC = logits_BC.masked_fill(filtered_BC, lowest if filtered.mode == "drop" else 0.0)
    del cos_BC  # one (B, C) matrix less while the log-sum-exp makes its own
    logit_sum_B = _with_own(logits_BC, given.labels_B, 0.0).sum(dim=1) if given.wants_logit_sum else None
    negatives_lse_B = _with_own(logits_BC, given.labels_B, lowest).logsumexp(dim=1)
    return EngineOutput(target_cos_B=cos_target_B, negatives_lse_B=negatives_lse_B, logit_sum_B=logit_sum_B)


def _with_own(logits_BC: torch.Tensor, labels_B: torch.Tensor, value: float) -> torch.Tensor:
    """(B, C) with a value in place of each sample's own class, where that is among them."""
    column_B1 = labels_B.clamp(min=0)[:, None]
    own_B1 = logits_BC.gather(1, column_B1).masked_fill((labels_B >= 0)[:, None], value)
    return logits_BC.scatter(1, column_B1, own_B1)


def _true_cosines(given: EngineInput) -> torch.Tensor:
    """(B, C): the cosines of embeddings and centres that are both left unnormalised."""
    emb_BD = F.normalize(given.emb_BD.detach(), dim=1, eps=MIN_NORM)
    cos_BR = emb_BD @ F.normalize(given.weight_RD.detach().to(emb_BD.dtype), dim=1, eps=MIN_NORM).T
    return cos_BR.view(len(cos_BR), -1, given.num_sub_centres).amax(dim=2)
