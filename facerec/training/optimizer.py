"""Optimizers as plain settings that build optimizers over named parameters."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, Required, TypedDict, Unpack

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.core.part_check import check_part, part_error
from facerec.heads.row_optimizer import RowAdamW, RowOptimizer, RowSGD
from facerec.training.part_names import check_entries, entry_for

NO_FACTORS: Mapping[str, float] = MappingProxyType({})


CENTRES = "objective.head.centres.weight"
"""The name of the class centres among the parameters."""


class OptimizerOptions(TypedDict, total=False):
    """The options of every optimizer that derives from `Optimizer`.

    Attributes:
        lr: learning rate; only the schedule multiplies it.
        weight_decay: L2 coefficient.
        decay_norms_and_biases: apply weight decay to vectors (BN, biases, PReLU) too.
        lr_factors, fused_centres: see `SGD`.
    """

    lr: Required[float]
    weight_decay: float
    decay_norms_and_biases: bool
    lr_factors: Mapping[str, float]
    fused_centres: bool


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


class Optimizer:
    """Base of optimizers: the learning rates and the groups of the parameters. A subclass defines `build`.

    Args:
        options: see `OptimizerOptions`.

    Raises:
        ConfigError: a number is out of range. `groups`: lr_factors names nothing.
    """

    def __init__(self, **options: Unpack[OptimizerOptions]) -> None:
        self.lr = options["lr"]
        self.weight_decay = options.get("weight_decay", 0.0)
        self.decay_norms_and_biases = options.get("decay_norms_and_biases", True)
        self.lr_factors = dict(options.get("lr_factors", {}))
        self.fused_centres = options.get("fused_centres", False)
        _check_range("lr", self.lr)
        _check_range("weight_decay", self.weight_decay)
        for name, factor in self.lr_factors.items():
            _check_range(f"lr_factors.{name}", factor)

    @abstractmethod
    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Builds the optimizer; see `OptimizerSettings.build`."""
        raise NotImplementedError

    def row_optimizer(self, parameter: torch.Tensor) -> RowOptimizer:
        """Raises ConfigError, because this method has none: the head cannot draw classes or fuse its updates."""
        raise ConfigError(
            f"optimizer: {type(self).__name__} has no row_optimizer, which head.sample_rate below 1 and "
            "optimizer.fused_centres=true need: train all class centres, or take optimizer=sgd or adamw"
        )

    def groups(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Returns one group for each combination of weight decay and learning-rate factor, in the order of the
        parameters, as `OptimizerSettings.build` needs them; the class centres are a separate group.
        """
        parameters = list(parameters)
        check_entries(self.lr_factors, [name for name, _ in parameters], section="optimizer.lr_factors", default=1)
        groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
        for name, parameter in parameters:
            if not parameter.requires_grad:
                continue
            decay, factor = self._decay_of(parameter), lr_factor_of(name, self.lr_factors)
            new = {"params": [], "names": [], "weight_decay": decay, "lr_factor": factor}
            group = groups.setdefault((decay, factor, name == CENTRES), new)
            group["params"].append(parameter)
            group["names"].append(name)
        return list(groups.values())

    def _decay_of(self, parameter: torch.Tensor) -> float:
        return self.weight_decay if self.decay_norms_and_biases or parameter.ndim > 1 else 0.0


class SGD(Optimizer):
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
        super().__init__(
            lr=lr,
            weight_decay=weight_decay,
            decay_norms_and_biases=decay_norms_and_biases,
            lr_factors=lr_factors,
            fused_centres=fused_centres,
        )
        _check_range("momentum", momentum, below=1)
        if nesterov and momentum == 0:
            raise ConfigError("optimizer.nesterov=true with optimizer.momentum=0; it needs a momentum, for example 0.9")
        self.momentum = momentum
        self.nesterov = nesterov

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Builds torch's optimizer; see `OptimizerSettings.build`."""
        groups = _with_fused_kernel(self.groups(parameters))
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)

    def row_optimizer(self, parameter: torch.Tensor) -> RowOptimizer:
        """Makes the same method for drawn rows; see `OptimizerSettings.row_optimizer`."""
        decay = self._decay_of(parameter)
        return RowSGD(parameter, momentum=self.momentum, weight_decay=decay, nesterov=self.nesterov)


class AdamW(Optimizer):
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
        super().__init__(
            lr=lr,
            weight_decay=weight_decay,
            decay_norms_and_biases=decay_norms_and_biases,
            lr_factors=lr_factors,
            fused_centres=fused_centres,
        )
        _check_range("betas", betas[0], below=1)
        _check_range("betas", betas[1], below=1)
        _check_range("eps", eps)
        self.betas = betas
        self.eps = eps

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Builds torch's optimizer; see `OptimizerSettings.build`."""
        groups = _with_fused_kernel(self.groups(parameters))
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps)

    def row_optimizer(self, parameter: torch.Tensor) -> RowOptimizer:
        """Makes the same method for drawn rows; see `OptimizerSettings.row_optimizer`."""
        decay = self._decay_of(parameter)
        return RowAdamW(parameter, betas=self.betas, eps=self.eps, weight_decay=decay)


def lr_factor_of(name: str, lr_factors: Mapping[str, float]) -> float:
    """Returns the factor on the learning rate of the parameter with this name."""
    entry = entry_for(name, lr_factors)
    return 1.0 if entry is None else lr_factors[entry]


def _check_range(name: str, value: float, *, below: float = math.inf) -> None:
    if not 0 <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ConfigError(f"optimizer.{name} holds {value}; expected a number, 0 or more{limit}")


def _with_fused_kernel(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gives the class centres torch's fused kernel: the others copy all centres once more to add their weight decay.

    (For several tensors the fused kernel fails if only some have momentum yet.)
    """
    return [{**group, "fused": group["names"] == [CENTRES] or None} for group in groups]


def check_optimizer(optimizer: OptimizerSettings) -> None:
    """Refuses an optimizer of the user's own class that lacks something of `OptimizerSettings`.

    Raises:
        ConfigError: names the class and everything that is wrong.
    """
    check_part(optimizer, OptimizerSettings, key="optimizer", kind="optimizer")


def built_optimizer(
    settings: OptimizerSettings, parameters: Iterable[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    """Returns what `settings.build` returns, after checking that the trainer can use it.

    Raises:
        ConfigError: it is not an optimizer of torch, or its groups lack the names or the factors.
    """
    built: Any = settings.build(parameters)
    faults = []
    if not isinstance(built, torch.optim.Optimizer):
        faults = [f"build returns a {type(built).__name__}; expected a torch.optim.Optimizer"]
    elif any(
        len(group.get("names", ())) != len(group["params"]) or "lr_factor" not in group for group in built.param_groups
    ):
        faults = ["the groups of what build returns lack names or lr_factor; give it self.groups(parameters)"]
    if faults:
        raise part_error(settings, faults, key="optimizer", kind="optimizer")
    return built
