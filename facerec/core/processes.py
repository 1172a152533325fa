"""The processes that train together: which one this is, and collectives that do nothing when it is alone."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of torch.distributed's default group; without a group, this process alone.

    All of them must call the same collectives in the same order, with tensors of one shape. The backward of a
    collective is one too.

    Attributes:
        rank: this process, 0 .. world_size - 1.
        world_size: how many there are.
    """

    rank: int = 0
    world_size: int = 1

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replaces the tensor by its sum over the processes, without gradient."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """(N, ...) of each -> (world_size * N, ...) on all, in the order of their ranks, without gradient."""
        if self.world_size == 1:
            return tensor
        gathered = tensor.new_empty(self.world_size * len(tensor), *tensor.shape[1:])
        dist.all_gather_into_tensor(gathered, tensor.contiguous())
        return gathered

    def gather_with_gradient(self, tensor: torch.Tensor) -> torch.Tensor:
        """`gather`; each process gets back the sum over all of the gradients of its own part."""
        return tensor if self.world_size == 1 else _Gather.apply(tensor, self)

    def sum_with_gradient(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes; each gets back the sum over all of the gradients."""
        return tensor if self.world_size == 1 else _Sum.apply(tensor, self)

    def own_part(self, gathered: torch.Tensor) -> torch.Tensor:
        """(world_size * N, ...) -> (N, ...): what this process gave to `gather`."""
        return gathered.view(self.world_size, -1, *gathered.shape[1:])[self.rank]


ALONE = Processes()


def this_process() -> Processes:
    """Where this process stands in the default group; `ALONE` without one."""
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
        dist.reduce_scatter_tensor(own, gradient.contiguous())
        return own, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, processes: Processes) -> torch.Tensor:
        ctx.processes = processes
        return processes.sum_(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return ctx.processes.sum_(gradient.clone()), None
