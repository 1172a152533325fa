"""Gives each process of one machine the device on which it trains."""

import os

import torch

from facerec.core.device import choose_device
from facerec.core.errors import ConfigError


def own_device(name: str, *, key: str = "trainer.device") -> torch.device:
    """Returns the device on which this process trains. A GPU is made current, before anything else touches one.

    torch opens a context, some hundred megabytes, on whichever GPU is current when it is first used.

    Where a launcher has started several processes on this machine (LOCAL_RANK, LOCAL_WORLD_SIZE), `auto` and `cuda`
    give each of them a GPU of its own. Other names are as in `choose_device`.

    Args:
        name: the device.
        key: which says so, for messages.

    Raises:
        ConfigError: the device is not there; all processes of this machine would share one GPU; there are fewer GPUs
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
                "gives each of them a GPU of its own"
            )
        if (found := torch.cuda.device_count()) < num_here:
            raise ConfigError(
                f"{num_here} processes on this machine, but torch finds {found} {'GPU' if found == 1 else 'GPUs'}: "
                "each process needs one. Start fewer processes (launch.gpus=, or torchrun --nproc-per-node=), or use "
                f"the CPU with {key}=cpu"
            )
        name = f"cuda:{local_rank}"
    if name != "cuda":  # that is the current one already
        _make_current(name)
    return choose_device(name)


def _processes_here() -> tuple[int, int]:
    """How many processes share this work on this machine, and the number of this one among them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 1, 0
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), local_rank + 1), local_rank


def _make_current(name: str) -> None:
    try:
        torch.cuda.set_device(name)
    except (RuntimeError, AssertionError, ValueError):
        return  # `choose_device` says what is wrong
