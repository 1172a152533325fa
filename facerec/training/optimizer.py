"""Optimizers as plain settings that build themselves over named parameters."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn


class OptimizerSettings(Protocol):
    """What the trainer asks: the learning rate, and an optimizer over named parameters."""

    lr: float

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """An optimizer over the parameters that take a gradient. Its groups carry the names, under "names"."""
        ...


class SGD:
    """Stochastic gradient descent with momentum (torch.optim.SGD).

    Args:
        lr: learning rate; the schedule multiplies it, nothing else scales it.
        momentum: factor of the running gradient.
        weight_decay: L2 coefficient.
        nesterov: Nesterov's momentum.
        decay_norms_and_biases: apply weight decay to vectors (BN, biases, PReLU) too, as arcface_torch does.
    """

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        nesterov: bool = False,
        decay_norms_and_biases: bool = True,
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.decay_norms_and_biases = decay_norms_and_biases

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """See `OptimizerSettings.build`."""
        groups = _groups(parameters, self.weight_decay, self.decay_norms_and_biases)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)


class AdamW:
    """AdamW (torch.optim.AdamW).

    Args:
        lr, betas, eps, weight_decay: see torch.optim.AdamW.
        decay_norms_and_biases: apply weight decay to vectors (BN, biases, PReLU) too.
    """

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        decay_norms_and_biases: bool = True,
    ) -> None:
        self.lr = lr
        self.betas = (betas[0], betas[1])
        self.eps = eps
        self.weight_decay = weight_decay
        self.decay_norms_and_biases = decay_norms_and_biases

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """See `OptimizerSettings.build`."""
        groups = _groups(parameters, self.weight_decay, self.decay_norms_and_biases)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)


def _groups(
    parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float, decay_norms_and_biases: bool
) -> list[dict[str, Any]]:
    trained = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    decayed = [(n, p) for n, p in trained if decay_norms_and_biases or p.ndim > 1]
    others = [(n, p) for n, p in trained if not (decay_norms_and_biases or p.ndim > 1)]
    return [
        {"params": [p for _, p in part], "names": [n for n, _ in part], "weight_decay": decay}
        for part, decay in ((decayed, weight_decay), (others, 0.0))
        if part
    ]
