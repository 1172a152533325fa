"""Gives each process of one machine the device on which it trains."""

import os

import torch

from facerec.core.device import choose_device
from facerec.core.errors import ConfigError


def own_device(name: str, *, key: str = "trainer.device") -> torch.device:
    """Returns the device on which this process trains. Makes a GPU current before anything else uses one.

    torch opens a context of some hundred megabytes on the GPU that is current at its first use.

    If a launcher has started several processes on this machine (LOCAL_RANK, LOCAL_WORLD_SIZE), `auto` and `cuda` give
    each of them its own GPU. Other names are as in `choose_device`.

    Args:
        name: the device.
        key: the key of the device, for messages.

    Raises:
        ConfigError: the device does not exist; all processes of this machine would share one GPU; there are fewer GPUs
            than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] != "cuda":
        return choose_device(name)
    num_here, local_rank = _processes_here()
    if num_here > 1:
        if name != "cuda":
            raise ConfigError(
                f"{key}={name} would put all {num_here} processes of this machine on one GPU: use {key}=cuda, which "
                "gives each of them its own GPU"
            )
        if (found := torch.cuda.device_count()) < num_here:
            raise ConfigError(
                f"{num_here} processes on this machine, but torch finds {found} {'GPU' if found == 1 else 'GPUs'}: "
                "each process needs one. Start fewer processes (launch.gpus=, or torchrun --nproc-per-node=), or use "
                f"the CPU with {key}=cpu"
            )
        name = f"cuda:{local_rank}"
    if name != "cuda":  # "cuda" is the current GPU already
        _make_current(name)
    return choose_device(name)


def _processes_here() -> tuple[int, int]:
    """Returns how many processes share this work on this machine, and the number of this one among them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 1, 0
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), local_rank + 1), local_rank


def _make_current(name: str) -> None:
    try:
        torch.cuda.set_device(name)
    except (RuntimeError, AssertionError, ValueError):
        return  # `choose_device` reports the fault
