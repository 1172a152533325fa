"""Optimizers as plain settings that build themselves over named parameters."""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from facerec.core.errors import ConfigError


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

    Raises:
        ConfigError: a number is out of range, or nesterov without momentum.
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
        _check_range("lr", lr)
        _check_range("momentum", momentum, below=1)
        _check_range("weight_decay", weight_decay)
        if nesterov and momentum == 0:
            raise ConfigError("optimizer.nesterov=true with optimizer.momentum=0; it needs a momentum, for example 0.9")
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

    Raises:
        ConfigError: a number is out of range.
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
        _check_range("lr", lr)
        _check_range("betas", betas[0], below=1)
        _check_range("betas", betas[1], below=1)
        _check_range("eps", eps)
        _check_range("weight_decay", weight_decay)
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.decay_norms_and_biases = decay_norms_and_biases

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """See `OptimizerSettings.build`."""
        groups = _groups(parameters, self.weight_decay, self.decay_norms_and_biases)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)


def _check_range(name: str, value: float, *, below: float = math.inf) -> None:
    if not 0 <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ConfigError(f"optimizer.{name} holds {value}; expected a number from 0{limit}")


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
