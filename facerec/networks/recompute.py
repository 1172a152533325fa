"""Activation checkpointing: activations are computed again in the backward pass instead of being kept."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_pieces(pieces: Iterable[nn.Module], x: torch.Tensor, *, recompute: bool) -> torch.Tensor:
    """Runs the pieces in sequence; with `recompute`, only the input of each is kept for the backward pass.

    Outputs, gradients, random numbers (dropout, drop-path) and running statistics equal those without `recompute`.
    """
    for piece in pieces:
        if recompute and can_recompute(piece) and torch.is_grad_enabled():
            # torch.compile accepts no contexts and needs none: it does not repeat updates of buffers.
            contexts: dict[str, Any] = (
                {} if torch.compiler.is_compiling() else {"context_fn": partial(_contexts, piece)}
            )
            x = checkpoint(piece, x, use_reentrant=False, **contexts)
        else:
            x = piece(x)
    return x


def can_recompute(piece: nn.Module) -> bool:
    """True if recomputing pays: a single layer keeps little but its input anyway, and may work on it in place."""
    return any(True for _ in piece.children())


def _contexts(piece: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Returns the contexts of the forward pass, and of its repetition."""
    return nullcontext(), _Repetition(piece)


class _Repetition:
    """While it is active, batch normalisation runs as when this was made, but updates copies of its statistics.

    It may be entered several times: a graph that is kept is recomputed in every backward pass.
    """

    def __init__(self, piece: nn.Module) -> None:
        norms = [module for module in piece.modules() if isinstance(module, _BatchNorm)]
        self.tracks = [(norm, norm.track_running_stats) for norm in norms]

    def __enter__(self) -> None:
        self.before = [(norm, norm.track_running_stats, dict(norm.named_buffers())) for norm, _ in self.tracks]
        for norm, tracks in self.tracks:
            norm.track_running_stats = tracks
            for name, buffer in norm.named_buffers():
                setattr(norm, name, buffer.clone())

    def __exit__(self, *_: object) -> None:
        for norm, tracks, buffers in self.before:
            norm.track_running_stats = tracks
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
