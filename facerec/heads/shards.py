"""Class centres cut into shards, one per process: each computes its own classes for the samples of all.

Processes exchange embeddings, labels and a few numbers per sample, so traffic does not depend on the number of classes.

Letters: B samples of this process, N = world_size * B of all, C classes.
"""

from dataclasses import replace
from typing import Any

import torch

from facerec.heads.engines import EngineInput, EngineOutput
from facerec.processes.group import Processes


def shard_of(num_classes: int, processes: Processes) -> range:
    """Returns the classes of this process, cut like torch's chunk: the last shards may be smaller or empty."""
    size = -(-num_classes // processes.world_size)
    return range(min(processes.rank * size, num_classes), min((processes.rank + 1) * size, num_classes))


def gathered(given: EngineInput, processes: Processes) -> EngineInput:
    """Returns the samples of all processes; their labels are numbers among all classes."""
    emb_BD, scale = given.emb_BD, given.scale
    dim = emb_BD.shape[1]
    if isinstance(scale, torch.Tensor) and scale.ndim > 0:  # one collective for both, as their backwards have no order
        both = processes.gather_with_gradient(torch.cat([emb_BD, scale[:, None].to(emb_BD.dtype)], dim=1))
        emb_BD, scale = both[:, :dim], both[:, dim]
    else:
        emb_BD = processes.gather_with_gradient(emb_BD)
    labels_B = processes.gather(given.labels_B)
    return replace(given, emb_BD=emb_BD, labels_B=labels_B, scale=scale, processes=processes)


def merged(output: EngineOutput, processes: Processes) -> EngineOutput:
    """Merges the outputs (N,) of every process's own classes to those of all classes (B,), for its own samples."""
    lse_N = _MergedLogSumExp.apply(output.negatives_lse_B, processes)
    sum_N = output.logit_sum_B
    return EngineOutput(
        target_cos_B=processes.own_part(output.target_cos_B),
        negatives_lse_B=processes.own_part(lse_N),
        logit_sum_B=None if sum_N is None else processes.own_part(processes.sum_with_gradient(sum_N)),
    )


class _MergedLogSumExp(torch.autograd.Function):
    """Computes the log-sum-exp over all processes; each process gets back its share of the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, lse_N: torch.Tensor, processes: Processes) -> torch.Tensor:
        merged_N = processes.gather(lse_N[None]).logsumexp(dim=0)
        ctx.processes = processes
        ctx.save_for_backward(lse_N, merged_N)
        return merged_N

    @staticmethod
    def backward(ctx: Any, gradient_N: torch.Tensor) -> Any:
        lse_N, merged_N = ctx.saved_tensors
        return ctx.processes.sum_(gradient_N.clone()).mul_((lse_N - merged_N).exp()), None
