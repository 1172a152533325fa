"""Optimizers as plain settings that build optimizers over named parameters."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.heads.row_optimizer import RowAdamW, RowOptimizer, RowSGD
from facerec.training.part_names import check_entries, entry_for

NO_FACTORS: Mapping[str, float] = MappingProxyType({})


CENTRES = "objective.head.centres.weight"
"""The name of the class centres among the parameters."""


class OptimizerSettings(Protocol):
    """The interface for the trainer: the learning rate, and an optimizer over named parameters.

    Attributes:
        lr: learning rate.
        lr_factors: see `SGD`.
        fused_centres: see `SGD`.

    An optional attribute `lr_batch_exponent` is the power with which a good learning rate grows with the batch size.
    With it, a rate that is far from the recipe's gets a warning; nothing scales a rate.
    """

    lr: float
    lr_factors: Mapping[str, float]
    fused_centres: bool

    def row_optimizer(self, parameter: torch.Tensor) -> RowOptimizer:
        """Returns the same method for the rows of one parameter of a head."""
        ...

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Returns an optimizer over the parameters that need a gradient.

        Its groups have the parameters' names, under "names", and their factor on the learning rate, "lr_factor".
        """
        ...


class SGD:
    """Stochastic gradient descent with momentum (torch.optim.SGD).

    Args:
        lr: learning rate; only the schedule multiplies it.
        momentum: factor of the running gradient.
        weight_decay: L2 coefficient.
        nesterov: Nesterov's momentum.
        decay_norms_and_biases: apply weight decay to vectors (BN, biases, PReLU) too, as arcface_torch does.
        lr_factors: factors on the learning rate, by part (backbone, neck, head, loss) or by the beginning of a
            parameter's name up to a dot, such as backbone.layer1; the longest match counts.
        fused_centres: update the class centres inside the head's backward pass, chunk by chunk, so that their gradient
            never exists as a whole. Excludes several micro-batches in a step, fp16 with its scaler, and a frozen head.

    Raises:
        ConfigError: a number is out of range, or nesterov without momentum. `build`: lr_factors names nothing.
    """

    lr_batch_exponent = 1.0

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        nesterov: bool = False,
        decay_norms_and_biases: bool = True,
        lr_factors: Mapping[str, float] = NO_FACTORS,
        fused_centres: bool = False,
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
        self.lr_factors = _checked_factors(lr_factors)
        self.fused_centres = fused_centres

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """See `OptimizerSettings.build`."""
        groups = _groups(parameters, self.weight_decay, self.decay_norms_and_biases, self.lr_factors)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)

    def row_optimizer(self, parameter: torch.Tensor) -> RowOptimizer:
        """See `OptimizerSettings.row_optimizer`."""
        decay = _decay_of(parameter, self.weight_decay, self.decay_norms_and_biases)
        return RowSGD(parameter, momentum=self.momentum, weight_decay=decay, nesterov=self.nesterov)


class AdamW:
    """AdamW (torch.optim.AdamW).

    Args:
        lr, betas, eps, weight_decay: see torch.optim.AdamW.
        decay_norms_and_biases: apply weight decay to vectors (BN, biases, PReLU) too.
        lr_factors, fused_centres: see `SGD`.

    Raises:
        ConfigError: a number is out of range. `build`: lr_factors names nothing.
    """

    lr_batch_exponent = 0.5

    def __init__(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        decay_norms_and_biases: bool = True,
        lr_factors: Mapping[str, float] = NO_FACTORS,
        fused_centres: bool = False,
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
        self.lr_factors = _checked_factors(lr_factors)
        self.fused_centres = fused_centres

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """See `OptimizerSettings.build`."""
        groups = _groups(parameters, self.weight_decay, self.decay_norms_and_biases, self.lr_factors)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)

    def row_optimizer(self, parameter: torch.Tensor) -> RowOptimizer:
        """See `OptimizerSettings.row_optimizer`."""
        decay = _decay_of(parameter, self.weight_decay, self.decay_norms_and_biases)
        return RowAdamW(parameter, betas=self.betas, eps=self.eps, weight_decay=decay)


def lr_factor_of(name: str, lr_factors: Mapping[str, float]) -> float:
    """Returns the factor on the learning rate of the parameter with this name."""
    entry = entry_for(name, lr_factors)
    return 1.0 if entry is None else lr_factors[entry]


def _check_range(name: str, value: float, *, below: float = math.inf) -> None:
    if not 0 <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ConfigError(f"optimizer.{name} holds {value}; expected a number, 0 or more{limit}")


def _checked_factors(lr_factors: Mapping[str, float]) -> dict[str, float]:
    for name, factor in lr_factors.items():
        _check_range(f"lr_factors.{name}", factor)
    return dict(lr_factors)


def _decay_of(parameter: torch.Tensor, weight_decay: float, decay_norms_and_biases: bool) -> float:
    return weight_decay if decay_norms_and_biases or parameter.ndim > 1 else 0.0


def _groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    decay_norms_and_biases: bool,
    lr_factors: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Returns one group for each combination of weight decay and learning-rate factor, in the order of the parameters.

    The class centres are a separate group, with torch's fused kernel: the other kernels copy all centres once more to
    add their weight decay. (For several tensors the fused kernel fails if only some have momentum yet.)
    """
    parameters = list(parameters)
    check_entries(lr_factors, [name for name, _ in parameters], section="optimizer.lr_factors", default=1)
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        decay = _decay_of(parameter, weight_decay, decay_norms_and_biases)
        factor = lr_factor_of(name, lr_factors)
        are_centres = name == CENTRES
        new = {"params": [], "names": [], "weight_decay": decay, "lr_factor": factor, "fused": are_centres or None}
        group = groups.setdefault((decay, factor, are_centres), new)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())
