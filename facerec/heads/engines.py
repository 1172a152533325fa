"""Engines: they map embeddings, class centres and the negatives' function to target cosines and log-sum-exp.

All engines have the interface `Engine`. This file has the interface and the dense reference.

Letters: B samples, C classes, K sub-centres per class, D embedding dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F

from facerec.processes.group import ALONE, Processes

Negatives = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""g: (cos_BC, cos_target_B) -> (B, C). Each entry depends only on its own cosine and the sample's target cosine."""

MIN_NORM = 1e-12
"""Centres with a smaller norm are divided by this value instead of their norm, as in torch's normalize."""


@dataclass(frozen=True, kw_only=True)
class InterClassFilter:
    """Finds negatives with a cosine above a threshold, which probably show the same person under another label.

    Args:
        mode: "drop" removes them from the sum; "zero" sets their logit to 0, as arcface_torch does.
        threshold: the cosine.
    """

    mode: Literal["drop", "zero"]
    threshold: float

    def finds(self, cos_BC: torch.Tensor) -> torch.Tensor:
        """Returns True for entries above the threshold: bool, the shape of the cosines."""
        return cos_BC.detach() > self.threshold


@dataclass(frozen=True, kw_only=True)
class EngineInput:
    """The input of every engine.

    Attributes:
        emb_BD: (B, D), fp32 or fp64; of norm 1 if `normalise`.
        weight_RD: class centres (C * K, D); the K sub-centres of a class are consecutive rows.
        labels_B: int64 (B,), in 0 .. C - 1 (not checked here); -1 if another process has the sample's class.
        scale: factor on the logits: a number, a scalar tensor or (B,); a tensor gets a gradient.
        negatives: g, or None for the identity function.
        bias_C: added to the products, or None.
        normalise: divide centres by their norm. Without it, "cosines" are plain products.
        num_sub_centres: K; the cosine to a class is the largest among its sub-centres.
        inter_class_filter: the filter, or None.
        wants_logit_sum: True if the sum of the negatives' logits is needed.
        processes: the processes that hold the other classes; all get the same samples.
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
        """Returns the scale in a shape that multiplies (B, C)."""
        return self.scale[:, None] if isinstance(self.scale, torch.Tensor) and self.scale.ndim else self.scale

    @property
    def num_classes(self) -> int:
        """C."""
        return self.weight_RD.shape[0] // self.num_sub_centres


@dataclass(frozen=True, kw_only=True)
class EngineOutput:
    """The output of every engine, fp32 or fp64 as the embeddings, with gradients.

    Attributes:
        target_cos_B: the cosine to the own class, also if another process has it; without normalisation the logit.
        negatives_lse_B: log of the sum of exp(logit) over all other given classes; finite even if there are none.
        logit_sum_B: the sum of the logits of all other given classes, or None.
    """

    target_cos_B: torch.Tensor
    negatives_lse_B: torch.Tensor
    logit_sum_B: torch.Tensor | None


class Engine(Protocol):
    """Maps `EngineInput` to `EngineOutput`."""

    def __call__(self, given: EngineInput) -> EngineOutput: ...


def target_cosines(given: EngineInput) -> torch.Tensor:
    """Returns the row-wise products (B,) of the embeddings with the centres of their own classes.

    Entries of a matrix product differ in the last bits between kernels, and near theta = 0 the margin's gradient
    enlarges that to 1e-4. So all engines take the target's cosine from this function.
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

    The target's column is masked. Subtracting it from a full log-sum-exp would lose the loss in fp32 if the target is
    far above the other logits.
    """
    emb_BD, dtype = given.emb_BD, given.emb_BD.dtype
    lowest = torch.finfo(dtype).min  # not -inf: a row with nothing else would have a gradient of NaN
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
    del cos_BC  # frees one (B, C) matrix before the log-sum-exp makes its own
    logit_sum_B = _with_own(logits_BC, given.labels_B, 0.0).sum(dim=1) if given.wants_logit_sum else None
    negatives_lse_B = _with_own(logits_BC, given.labels_B, lowest).logsumexp(dim=1)
    return EngineOutput(target_cos_B=cos_target_B, negatives_lse_B=negatives_lse_B, logit_sum_B=logit_sum_B)


def _with_own(logits_BC: torch.Tensor, labels_B: torch.Tensor, value: float) -> torch.Tensor:
    """Returns (B, C) with a value in place of each sample's own class, if the class is among the columns."""
    column_B1 = labels_B.clamp(min=0)[:, None]
    own_B1 = logits_BC.gather(1, column_B1).masked_fill((labels_B >= 0)[:, None], value)
    return logits_BC.scatter(1, column_B1, own_B1)


def _true_cosines(given: EngineInput) -> torch.Tensor:
    """Returns the cosines (B, C) of embeddings and centres that are both not normalised."""
    emb_BD = F.normalize(given.emb_BD.detach(), dim=1, eps=MIN_NORM)
    cos_BR = emb_BD @ F.normalize(given.weight_RD.detach().to(emb_BD.dtype), dim=1, eps=MIN_NORM).T
    return cos_BR.view(len(cos_BR), -1, given.num_sub_centres).amax(dim=2)
