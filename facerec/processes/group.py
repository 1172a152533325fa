"""The group of processes that train together: rank and world size, and collectives that do nothing in one process."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from facerec.core.errors import FacerecError, OtherProcessError

Value = TypeVar("Value")

# torch 2.14 renamed these two collectives and warns about the old names; torch 2.11 has only the old names.
_all_gather: Any
_reduce_scatter: Any
if hasattr(dist, "all_gather_single"):
    _all_gather, _reduce_scatter = dist.all_gather_single, dist.reduce_scatter_single
else:
    _all_gather, _reduce_scatter = dist.all_gather_into_tensor, dist.reduce_scatter_tensor


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of torch.distributed's default group; without a group, this process alone.

    All processes must call the same collectives in the same order, with tensors of one shape. The backward pass of a
    collective is a collective too.

    Attributes:
        rank: the number of this process, 0 .. world_size - 1.
        world_size: the number of processes.
        group: their group in torch.distributed; None: the default group.
    """

    rank: int = 0
    world_size: int = 1
    group: Any = None

    @property
    def is_first(self) -> bool:
        """True on the process that writes what the user sees: logs, metrics, model files."""
        return self.rank == 0

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replaces the tensor by its sum over the processes, without gradient."""
        if self.world_size > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Gathers (N, ...) of each process to (world_size * N, ...) on all, in rank order, without gradient."""
        if self.world_size == 1:
            return tensor
        gathered = tensor.new_empty(self.world_size * len(tensor), *tensor.shape[1:])
        _all_gather(gathered, tensor.contiguous(), group=self.group)
        return gathered

    @torch.no_grad()
    def copy_from_first_(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites the tensors with those of the first process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0, group=self.group)

    def gather_objects(self, value: Value) -> list[Value]:
        """Returns the value of every process, on all, in rank order; anything that can be pickled."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def for_another_thread(self) -> "Processes":
        """Returns the same processes in a separate group, whose collectives never meet those of this one."""
        return self if self.world_size == 1 else replace(self, group=dist.new_group(backend="gloo"))

    def any(self, *flags: bool) -> list[bool]:
        """Returns for each flag whether any process has set it."""
        if self.world_size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=self.group)
        return [bool(flag) for flag in raised.tolist()]

    def raise_together(self, error: FacerecError | None) -> None:
        """Raises on all processes if one has an error: the first one its own error, others an `OtherProcessError`."""
        if isinstance(error, OtherProcessError):  # the other process raises it
            error = None
        messages = self.gather_objects(None if error is None else str(error))
        for rank, message in enumerate(messages):
            if message is None:
                continue
            if error is not None and rank == self.rank:
                raise error
            raise OtherProcessError(f"process {rank}: {message}")

    def gather_with_gradient(self, tensor: torch.Tensor) -> torch.Tensor:
        """Like `gather`, with gradients: each process gets the sum over all of the gradients of its own part."""
        return tensor if self.world_size == 1 else _Gather.apply(tensor, self)

    def sum_with_gradient(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the sum over the processes; each gets the sum over all of the gradients."""
        return tensor if self.world_size == 1 else _Sum.apply(tensor, self)

    def own_part(self, gathered: torch.Tensor) -> torch.Tensor:
        """Returns this process's part (N, ...) of a gathered (world_size * N, ...)."""
        return gathered.view(self.world_size, -1, *gathered.shape[1:])[self.rank]


ALONE = Processes()


def this_process() -> Processes:
    """Returns the position of this process in the default group; `ALONE` without one."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Processes(rank=dist.get_rank(), world_size=dist.get_world_size())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, processes: Processes) -> torch.Tensor:
        ctx.processes = processes
        return processes.gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        own = gradient.new_empty(len(gradient) // ctx.processes.world_size, *gradient.shape[1:])
        _reduce_scatter(own, gradient.contiguous(), group=ctx.processes.group)
        return own, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, processes: Processes) -> torch.Tensor:
        ctx.processes = processes
        return processes.sum_(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return ctx.processes.sum_(gradient.clone()), None
