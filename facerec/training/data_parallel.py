"""Trains one network in several processes with torch's DistributedDataParallel, wrapped again when parts unfreeze."""

import warnings
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facerec.processes.group import Processes

Compression = Literal["none", "fp16", "bf16"]
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class DataParallel:
    """Calls the network; in several processes, the backward of a step's last micro-batch sums the gradients of all.

    DDP by itself computes means. Here they are sums, because the gradients of the sharded class centres are sums
    already; every process divides its losses by the number of micro-batches of all processes. Running statistics of
    batch normalisation are not exchanged.

    Args:
        network: on its device; possibly compiled.
        processes: the processes that hold the same weights.
        deterministic: sum in the same order in every step, including the first one after resuming. Otherwise DDP
            changes its buckets after the first backward of a process.
        compression: number format in which gradients are exchanged.
    """

    def __init__(
        self, network: nn.Module, *, processes: Processes, deterministic: bool, compression: Compression
    ) -> None:
        self.network = network
        self.processes = processes
        self.deterministic = deterministic
        self.compression = compression
        self._wrapped: nn.Module | None = None
        self._trained: list[bool] = []

    def start_step(self) -> None:
        """Prepares a step, when its frozen parameters are known: DDP reads them only once."""
        trained = [parameter.requires_grad for parameter in self.network.parameters()]
        if self.processes.world_size == 1 or trained == self._trained:
            return
        self._trained, self._wrapped = trained, None
        if any(trained):
            with warnings.catch_warnings():
                # torch 2.15 has another name for the argument, with which it still sends the buffers once at the start.
                warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
                self._wrapped = DistributedDataParallel(
                    self.network,
                    broadcast_buffers=False,
                    find_unused_parameters=self.deterministic,  # prevents it from changing its buckets
                    gradient_as_bucket_view=True,
                )
            hook = _summed if self.compression == "none" else _compressed(_DTYPES[self.compression])
            self._wrapped.register_comm_hook(self.processes.world_size, hook)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Embeds normalised images (B, 3, H, W) as (B, D)."""
        return self.network(images) if self._wrapped is None else self._wrapped(images)

    def accumulating(self, *, is_last: bool) -> Any:
        """Returns a context for forward and backward of a micro-batch: only the step's last one exchanges gradients."""
        if is_last or not isinstance(self._wrapped, DistributedDataParallel):
            return nullcontext()
        return self._wrapped.no_sync()


def _summed(_world_size: int, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def _compressed(dtype: torch.dtype) -> Any:
    def hook(world_size: int, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        buffer = bucket.buffer()
        small = (buffer / world_size).to(dtype)  # a sum in half precision could exceed fp16
        work = dist.all_reduce(small, async_op=True)
        return work.get_future().then(lambda done: buffer.copy_(done.value()[0]).mul_(world_size))

    return hook
