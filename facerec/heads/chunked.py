"""The chunked engine: computes the result of the dense engine without ever holding the (B, C) matrix.

It processes the classes chunk by chunk. The forward pass keeps a running (maximum, sum) per sample, and the backward
pass computes the chunk's cosines again. That makes four products of batch and centres; the dense engine makes three.

Letters: B samples, C classes, K sub-centres per class, R = C * K centres, D embedding dimensions; n classes and
r = n * K centres of one chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from facerec.core.errors import ConfigError
from facerec.heads.engines import MIN_NORM, EngineInput, EngineOutput, target_cosines

RowUpdate = Callable[[slice, torch.Tensor], None]
"""Updates rows of the centres from their gradient (r, D), like a step of an optimizer."""

FUSED_TARGET = (
    "optimizer.fused_centres=true, but this head's negatives send a gradient to the target cosine: use "
    "fused_centres=false, or detach the target cosine in the negatives"
)

CHUNK_ENTRIES = {"cpu": 2**19, "other": 2**24}
"""Number of entries of a chunk's (B, r) matrices: on a CPU they fit in the cache, on a GPU they keep it busy."""


def chunked(
    given: EngineInput,
    *,
    classes_per_chunk: int | None = None,
    device_type: str | None = None,
    row_update: RowUpdate | None = None,
) -> EngineOutput:
    """See `facerec.heads.engines.Engine`.

    Args:
        given: see `EngineInput`.
        classes_per_chunk: n; None chooses it for the device.
        device_type: the type of that device; None: the type of the device of the embeddings.
        row_update: called in the backward pass with every chunk's gradient. Then the gradient of all centres is not
            returned and never exists as a whole. The backward pass may run only once, and g must not send a gradient
            to the target cosine.
    """
    scale = torch.as_tensor(given.scale, dtype=given.emb_BD.dtype, device=given.emb_BD.device)
    if classes_per_chunk is None:
        entries = CHUNK_ENTRIES["cpu" if (device_type or given.emb_BD.device.type) == "cpu" else "other"]
        classes_per_chunk = max(1, entries // (len(given.emb_BD) * given.num_sub_centres))
    plan = _Plan(given=given, classes_per_chunk=classes_per_chunk, row_update=row_update)
    cos_B, lse_B, sum_B = _Chunked.apply(given.emb_BD, given.weight_RD, given.bias_C, scale, plan)
    return EngineOutput(target_cos_B=cos_B, negatives_lse_B=lse_B, logit_sum_B=sum_B if given.wants_logit_sum else None)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Shared by the forward and the backward pass, in addition to the tensors that autograd must see."""

    given: EngineInput
    classes_per_chunk: int
    row_update: RowUpdate | None


@dataclass(kw_only=True)
class _Chunk:
    """The cosines of one chunk.

    Attributes:
        rows: the rows of the centres.
        classes: the classes.
        weight_rD: the centres, not normalised.
        inverse_norm_r: one over the norms of the centres; None if they are not normalised.
        cos_Bn: cosines; without normalisation, products including the bias.
        winner_Bn1: number of the nearest sub-centre; None with one sub-centre per class.
        filtered_Bn: the entries that the inter-class filter found, or None.
        own_B: True if the sample's label is in this chunk.
        column_B1: the label's column in this chunk, 0 for other labels.
    """

    rows: slice
    classes: slice
    weight_rD: torch.Tensor
    inverse_norm_r: torch.Tensor | None
    cos_Bn: torch.Tensor
    winner_Bn1: torch.Tensor | None
    filtered_Bn: torch.Tensor | None
    own_B: torch.Tensor
    column_B1: torch.Tensor

    def put_own(self, values_Bn: torch.Tensor, value: float) -> None:
        """Overwrites the entries of the samples' own classes in place."""
        found_B1 = values_Bn.gather(1, self.column_B1)
        values_Bn.scatter_(1, self.column_B1, found_B1.masked_fill_(self.own_B[:, None], value))

    def spread(self, values_Bn: torch.Tensor) -> torch.Tensor:
        """Maps (B, n) per class to (B, r): the value goes to the nearest sub-centre, 0 to the others."""
        if self.winner_Bn1 is None:
            return values_Bn
        spread_BnK = values_Bn.new_zeros(*values_Bn.shape, len(self.weight_rD) // values_Bn.shape[1])
        return spread_BnK.scatter_(2, self.winner_Bn1, values_Bn[:, :, None]).flatten(1)


def _chunks(plan: _Plan, inverse_norm_R: torch.Tensor, *, measure: bool) -> Iterator[_Chunk]:
    """Yields all chunks in order. With `measure` they fill in `inverse_norm_R`, otherwise they read it."""
    given, num_sub = plan.given, plan.given.num_sub_centres
    emb_BD, labels_B = given.emb_BD.detach(), given.labels_B
    for first in range(0, given.num_classes, plan.classes_per_chunk):
        last = min(first + plan.classes_per_chunk, given.num_classes)
        rows = slice(first * num_sub, last * num_sub)
        weight_rD = given.weight_RD.detach()[rows].to(emb_BD.dtype)
        product_Br, inverse_norm_r = emb_BD @ weight_rD.T, None
        if given.normalise:
            inverse_norm_r = inverse_norm_R[rows]
            if measure:
                torch.reciprocal(weight_rD.norm(dim=1).clamp_(min=MIN_NORM), out=inverse_norm_r)
            product_Br *= inverse_norm_r
        cos_Bn, winner_Bn1 = product_Br, None
        if num_sub > 1:
            cos_Bn, winner_Bn1 = product_Br.view(len(emb_BD), -1, num_sub).max(dim=2, keepdim=True)
            cos_Bn = cos_Bn[:, :, 0]
        filtered_Bn = None
        if given.inter_class_filter is not None:
            true_cos_Bn = cos_Bn if given.normalise else _true_cosines(given, product_Br, weight_rD)
            filtered_Bn = given.inter_class_filter.finds(true_cos_Bn)
        if given.bias_C is not None:
            cos_Bn = cos_Bn + given.bias_C.detach()[first:last].to(cos_Bn.dtype)
        own_B = (labels_B >= first) & (labels_B < last)
        yield _Chunk(
            rows=rows,
            classes=slice(first, last),
            weight_rD=weight_rD,
            inverse_norm_r=inverse_norm_r,
            cos_Bn=cos_Bn,
            winner_Bn1=winner_Bn1,
            filtered_Bn=filtered_Bn,
            own_B=own_B,
            column_B1=torch.where(own_B, labels_B - first, 0)[:, None],
        )


def _true_cosines(given: EngineInput, product_Br: torch.Tensor, weight_rD: torch.Tensor) -> torch.Tensor:
    """Returns the cosines (B, n) if neither embeddings nor centres are normalised."""
    cos_Br = product_Br / given.emb_BD.detach().norm(dim=1).clamp(min=MIN_NORM)[:, None]
    cos_Br /= weight_rD.norm(dim=1).clamp(min=MIN_NORM)
    return cos_Br.view(len(cos_Br), -1, given.num_sub_centres).amax(dim=2)


class _Chunked(torch.autograd.Function):
    """Maps (embeddings, centres, bias, scale) to (target cosines, log-sum-exp and sum of the negatives' logits)."""

    @staticmethod
    def forward(
        ctx: Any,
        emb_BD: torch.Tensor,
        weight_RD: torch.Tensor,
        bias_C: torch.Tensor | None,
        scale: torch.Tensor,
        plan: _Plan,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        given = plan.given
        lowest = torch.finfo(emb_BD.dtype).min
        cos_target_B = target_cosines(given)
        inverse_norm_R = emb_BD.new_empty(len(weight_RD) if given.normalise else 0)
        maximum_B, sum_B, logit_sum_B = (emb_BD.new_full((len(emb_BD),), x) for x in (lowest, 0.0, 0.0))
        for chunk in _chunks(plan, inverse_norm_R, measure=True):
            logits_Bn = _logits(chunk, given, scale, cos_target_B)
            if given.wants_logit_sum:
                chunk.put_own(logits_Bn, 0.0)
                logit_sum_B += logits_Bn.sum(dim=1)
            chunk.put_own(logits_Bn, lowest)
            higher_B = torch.maximum(maximum_B, logits_Bn.amax(dim=1))
            chunk_sum_B = logits_Bn.sub_(higher_B[:, None]).exp_().sum(dim=1)
            sum_B = sum_B * (maximum_B - higher_B).exp_() + chunk_sum_B
            maximum_B = higher_B
        lse_B = maximum_B + sum_B.log() if given.num_classes > 0 else maximum_B
        ctx.plan, ctx.inverse_norm_R = plan, inverse_norm_R
        ctx.save_for_backward(scale, cos_target_B, lse_B)
        return cos_target_B, lse_B, logit_sum_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_cos_B: torch.Tensor, grad_lse_B: torch.Tensor, grad_sum_B: torch.Tensor) -> Any:
        plan, given = ctx.plan, ctx.plan.given
        scale, cos_target_B, lse_B = ctx.saved_tensors
        emb_BD = given.emb_BD.detach()
        wants = ctx.needs_input_grad
        grad_emb_BD = torch.zeros_like(emb_BD)
        grad_weight_RD = torch.empty_like(given.weight_RD) if wants[1] and plan.row_update is None else None
        grad_bias_C = torch.empty_like(given.bias_C) if given.bias_C is not None else None
        grad_scale_B = torch.zeros_like(lse_B) if wants[3] else None
        through_g_B = torch.zeros_like(lse_B)
        grad_cos_B = given.processes.sum_(grad_cos_B.clone())
        own = _OwnCentres(given, cos_target_B)
        own_grad_BD = own.centre_gradient(grad_cos_B)
        for chunk in _chunks(plan, ctx.inverse_norm_R, measure=False):
            grad_logits_Bn, g_Bn, inputs = _logits_gradient(chunk, given, scale, cos_target_B, lse_B, grad_lse_B)
            if given.wants_logit_sum:
                grad_logits_Bn += grad_sum_B[:, None]
            chunk.put_own(grad_logits_Bn, 0.0)
            if chunk.filtered_Bn is not None:
                grad_logits_Bn.masked_fill_(chunk.filtered_Bn, 0.0)
            if grad_scale_B is not None:
                grad_scale_B += (grad_logits_Bn * g_Bn.detach()).sum(dim=1)
            grad_cos_Bn = grad_logits_Bn.mul_(_by_row(scale))
            if inputs:
                grad_cos_Bn, to_target_B = torch.autograd.grad(g_Bn, inputs, grad_cos_Bn, allow_unused=True)
                if to_target_B is not None:
                    if plan.row_update is not None:
                        raise ConfigError(FUSED_TARGET)
                    through_g_B += to_target_B
            if grad_bias_C is not None:
                grad_bias_C[chunk.classes] = grad_cos_Bn.sum(dim=0)
            grad_rD = _centre_gradient(chunk, emb_BD, grad_cos_Bn, grad_emb_BD)
            own.add_to_chunk(grad_rD, chunk, own_grad_BD)
            if plan.row_update is not None:
                plan.row_update(chunk.rows, grad_rD)
            elif grad_weight_RD is not None:
                grad_weight_RD[chunk.rows] = grad_rD
        grad_emb_BD += own.embedding_gradient(grad_cos_B)
        if given.negatives is not None:
            given.processes.sum_(through_g_B)
            grad_emb_BD += own.embedding_gradient(through_g_B)
            grad_cos_B += through_g_B
            if grad_weight_RD is not None:
                own.add_to_all(grad_weight_RD, own.centre_gradient(through_g_B))
        if grad_bias_C is not None:
            own.add_to_all(grad_bias_C, grad_cos_B)
        if grad_scale_B is not None and scale.ndim == 0:
            grad_scale_B = grad_scale_B.sum()
        return grad_emb_BD, grad_weight_RD, grad_bias_C, grad_scale_B, None


def _logits(chunk: _Chunk, given: EngineInput, scale: torch.Tensor, cos_target_B: torch.Tensor) -> torch.Tensor:
    g_Bn = chunk.cos_Bn if given.negatives is None else given.negatives(chunk.cos_Bn, cos_target_B)
    logits_Bn = g_Bn.detach() * _by_row(scale)
    if given.inter_class_filter is not None and chunk.filtered_Bn is not None:
        lowest = torch.finfo(logits_Bn.dtype).min
        logits_Bn.masked_fill_(chunk.filtered_Bn, lowest if given.inter_class_filter.mode == "drop" else 0.0)
    return logits_Bn


def _logits_gradient(
    chunk: _Chunk,
    given: EngineInput,
    scale: torch.Tensor,
    cos_target_B: torch.Tensor,
    lse_B: torch.Tensor,
    grad_lse_B: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Returns each logit's share in the log-sum-exp's gradient, g, and the input of g (empty if g is cos)."""
    logits_Bn = _logits(chunk, given, scale, cos_target_B)
    share_Bn = logits_Bn.sub_(lse_B[:, None]).exp_().mul_(grad_lse_B[:, None])
    if given.negatives is None:
        return share_Bn, chunk.cos_Bn, ()
    with torch.enable_grad():
        inputs = (chunk.cos_Bn.detach().requires_grad_(), cos_target_B.detach().requires_grad_())
        return share_Bn, given.negatives(*inputs), inputs


def _centre_gradient(
    chunk: _Chunk, emb_BD: torch.Tensor, grad_cos_Bn: torch.Tensor, grad_emb_BD: torch.Tensor
) -> torch.Tensor:
    """Returns the gradient of the chunk's centres (r, D); adds the embeddings' part to `grad_emb_BD`."""
    grad_Br = chunk.spread(grad_cos_Bn)
    if chunk.inverse_norm_r is None:
        grad_emb_BD.addmm_(grad_Br, chunk.weight_rD)
        return grad_Br.T @ emb_BD
    # d cos / d w = (x - w_hat cos) / |w|
    along_r = chunk.spread(grad_cos_Bn * chunk.cos_Bn).sum(dim=0) * chunk.inverse_norm_r.square()
    grad_Br = grad_Br * chunk.inverse_norm_r
    grad_emb_BD.addmm_(grad_Br, chunk.weight_rD)
    return (grad_Br.T @ emb_BD).addcmul_(chunk.weight_rD, along_r[:, None], value=-1)


class _OwnCentres:
    """The nearest centre of every sample's own class, and the gradients through the target cosine.

    The gradients are zero for samples whose class is in another shard.
    """

    def __init__(self, given: EngineInput, cos_target_B: torch.Tensor) -> None:
        num_sub, emb_BD = given.num_sub_centres, given.emb_BD.detach()
        self.here_B = given.labels_B >= 0
        self.num_sub = num_sub
        self.emb_BD = emb_BD
        self.cos_B = cos_target_B
        self.norm_B1: torch.Tensor | None = None
        if given.num_classes == 0:
            self.unit_BD = torch.zeros_like(emb_BD)
            self.winner_B = torch.zeros_like(given.labels_B)
            self.labels_B = self.winner_B
            return
        self.labels_B = given.labels_B.clamp(min=0)
        own_BKD = given.weight_RD.detach().view(-1, num_sub, emb_BD.shape[1])[self.labels_B].to(emb_BD.dtype)
        norm_BK1 = own_BKD.norm(dim=2, keepdim=True).clamp_(min=MIN_NORM) if given.normalise else None
        unit_BKD = own_BKD if norm_BK1 is None else own_BKD / norm_BK1
        self.winner_B = (emb_BD[:, None] * unit_BKD).sum(dim=2).argmax(dim=1)
        samples_B = torch.arange(len(emb_BD), device=emb_BD.device)
        self.unit_BD = unit_BKD[samples_B, self.winner_B] * self.here_B[:, None]
        if norm_BK1 is not None:
            self.norm_B1 = norm_BK1[samples_B, self.winner_B]

    def embedding_gradient(self, grad_B: torch.Tensor) -> torch.Tensor:
        """Returns the gradient of the embeddings (B, D) for a gradient of the target cosines."""
        return grad_B[:, None] * self.unit_BD

    def centre_gradient(self, grad_B: torch.Tensor) -> torch.Tensor:
        """Returns the gradient of the own centres (B, D), one row per sample, for `add_to_chunk` or `add_to_all`."""
        if self.norm_B1 is None:
            return grad_B[:, None] * self.emb_BD
        return grad_B[:, None] * (self.emb_BD - self.cos_B[:, None] * self.unit_BD) / self.norm_B1

    def add_to_chunk(self, grad_rD: torch.Tensor, chunk: _Chunk, own_grad_BD: torch.Tensor) -> None:
        """Adds `centre_gradient` to the rows that are in the chunk."""
        row_B = chunk.column_B1[:, 0] * self.num_sub + torch.where(chunk.own_B, self.winner_B, 0)
        grad_rD.index_add_(0, row_B, own_grad_BD * chunk.own_B[:, None])

    def add_to_all(self, grad: torch.Tensor, own_grad: torch.Tensor) -> None:
        """Adds a gradient per sample to the rows (R, D) of the own centres, or to the biases (C,)."""
        if len(grad) == 0:
            return
        rows_B = self.labels_B if grad.ndim == 1 else self.labels_B * self.num_sub + self.winner_B
        here = self.here_B if grad.ndim == 1 else self.here_B[:, None]
        grad.index_add_(0, rows_B, (own_grad * here).to(grad.dtype))


def _by_row(scale: torch.Tensor) -> torch.Tensor:
    return scale[:, None] if scale.ndim else scale
