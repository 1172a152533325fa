"""The live objects of a training as named tensors and plain values, to save in and restore from checkpoints."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from facerec.core.errors import ConfigError
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet
from facerec.processes.group import ALONE, Processes
from facerec.training.moving_average import MovingAverage

_OF_CLASSES = ("objective.head.centres.", "objective.head.rows.", "optimizer.objective.head.centres.")
"""Prefix of the names of the class centres, and of all tensors that belong to them."""
_OF_WHOLE = "|whole:"
"""Marks a state of an optimizer that has another shape than its parameter, such as NAdam's mu_product."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The parts of a training.

    Attributes:
        network, objective, optimizer, scaler: the parts of the training.
        average: the moving average of the network; it is then the checkpoint's model, and the trained network is in the
            training state.
        frozen: names of the parameters that are frozen at first. The optimizer has no state for them until they train.
        processes: the processes that train together.
    """

    network: EmbeddingNet
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None = None
    frozen: Collection[str] = ()
    processes: Processes = ALONE

    @property
    def model(self) -> EmbeddingNet:
        """Returns the network for evaluation."""
        return self.network if self.average is None else self.average.network

    @property
    def holders(self) -> Processes:
        """Returns the processes that each hold a shard of the class centres."""
        return self.processes if getattr(self.objective.head, "is_sharded", False) else ALONE

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns all tensors but the model, by name; of the class centres, those of this process.

        The class centres and all tensors that belong to them have a row per class, with all of its sub-centres, so that
        any number of processes cuts them between two classes.

        Raises:
            ConfigError: the optimizer has a state for sharded centres that is neither a number nor of their shape.
        """
        tensors = _optimizer_tensors(self.optimizer)
        for name, value in tensors.items() if self.holders.world_size > 1 else ():
            if name.startswith(_OF_CLASSES) and _OF_WHOLE in name and value.numel() > 1:
                raise ConfigError(
                    f"the optimizer's {name.rpartition(_OF_WHOLE)[2]} of the class centres has shape "
                    f"{tuple(value.shape)}, which processes cannot share: use head.sharding=replicated"
                )
        tensors |= {f"objective.{key}": value for key, value in self.objective.state_dict().items()}
        if self.average is not None:
            tensors |= {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for name in filter(is_of_classes, tensors):
            centres, rows = self.objective.head.centres, tensors[name]
            rows_per_class = 1 if "bias" in name else centres.num_sub_centres
            tensors[name] = rows.reshape(len(centres.classes), rows_per_class * math.prod(rows.shape[1:]))
        return tensors

    def shard_lengths(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Returns the whole lengths of the sharded tensors."""
        if self.holders.world_size == 1:
            return {}
        return {name: self.objective.head.centres.num_classes for name in tensors if is_of_classes(name)}

    def values(self) -> dict[str, Any]:
        """Returns the values that are not tensors."""
        return {"scaler": self.scaler.state_dict()}

    def restore(
        self, model: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]
    ) -> None:
        """Restores the results of `model.state_dict()`, `tensors` and `values`.

        If the stored training had no moving average and this one has, the average begins with the trained weights. If
        it had one and this one has none, training goes on with the trained weights.

        Raises:
            RuntimeError, KeyError: they belong to a network or an optimizer of another shape or kind.
        """
        _check_shapes(self.model.state_dict(), model)
        self.network.load_state_dict(_below("network.", tensors) or model)
        if self.average is not None:
            self.average.network.load_state_dict(model)
        live, stored = self.objective.state_dict(), _below("objective.", tensors)
        _check_shapes(_below("objective.", self.tensors()), stored)
        self.objective.load_state_dict({key: value.view(live[key].shape) for key, value in stored.items()})
        _restore_optimizer(self.optimizer, tensors, frozen=self.frozen)
        if values["scaler"]:  # empty without a scaler; one that is new starts by itself
            self.scaler.load_state_dict(values["scaler"])


def is_of_classes(name: str) -> bool:
    """True if a tensor with this name has a row per class."""
    return name.startswith(_OF_CLASSES) and not name.endswith("|step") and _OF_WHOLE not in name


def _check_shapes(live: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> None:
    """Raises RuntimeError, which names the first tensor that is absent or has another shape."""
    for name in [*live, *stored]:
        here, there = (tuple(one[name].shape) if name in one else "absent" for one in (live, stored))
        if here != there:
            raise RuntimeError(f"{name} is {there} in the checkpoint, {here} in this run")


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Returns tensors by "optimizer.<parameter>|<name>". Rates and decays come from the configuration."""
    tensors = {}
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                mark = "|" if key == "step" or value.shape == parameter.shape else _OF_WHOLE
                tensors[f"optimizer.{name}{mark}{key}"] = value
    return tensors


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], *, frozen: Collection[str]
) -> None:
    by_parameter: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in _below("optimizer.", tensors).items():
        name, state_name = key.rsplit("|", 1)
        by_parameter.setdefault(name, {})[state_name] = value
    parameters = dict(_named(optimizer))
    if unknown := sorted(set(by_parameter) - set(parameters)):
        raise KeyError(f"its optimizer holds {unknown[0]}, which this run does not train")
    if by_parameter and (absent := sorted(set(parameters) - set(by_parameter) - set(frozen))):
        raise KeyError(f"its optimizer holds nothing for {absent[0]}, which this run trains")
    fused = {name for group in optimizer.param_groups if group.get("fused") for name in group["names"]}
    for name, stored in by_parameter.items():
        parameter = parameters[name]
        for state_name, value in stored.items():
            if f"|{state_name}".startswith(_OF_WHOLE):
                whole = state_name.removeprefix(_OF_WHOLE[1:])
                optimizer.state[parameter][whole] = value.to(parameter.device, copy=True)
                continue
            # Keeps the parameter's layout (channels-last or not): the sums of the next step are then the same.
            like = torch.empty_like(parameter)
            if state_name == "step":  # a number, which only a fused kernel needs on the device
                like = torch.empty_like(value, device=parameter.device if name in fused else "cpu")
            optimizer.state[parameter][state_name] = like.copy_(value.view(like.shape))
