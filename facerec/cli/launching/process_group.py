"""Joins the processes that a launcher has started for one piece of work."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from typing import Any

from facerec.cli.launching.exit_codes import started_with_others
from facerec.cli.launching.launch_settings import LaunchSettings
from facerec.core.log import LOGGER
from facerec.processes.group import ALONE, Processes, this_process
from facerec.processes.lost_process import raise_if_lost
from facerec.processes.own_device import own_device


@contextmanager
def process_group(*, device: str, timeout_s: float, key: str = "trainer.device") -> Iterator[Processes]:
    """Returns the processes of this work, from torchrun's environment variables; without them, this process alone.

    Args:
        device: see `own_device`.
        timeout_s: how long a process waits for the others in a collective.
        key: the key of the device, for messages.

    Raises:
        ConfigError: the device cannot be used. All processes of a machine raise it: they do not wait for each other.
        LostProcessError: another process has died, or does not answer.
    """
    on_gpus = own_device(device, key=key).type == "cuda"
    if not started_with_others():
        yield ALONE
        return
    import torch.distributed as dist

    processes = Processes(rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    timeout = timedelta(seconds=timeout_s)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl"
            if on_gpus
            else "gloo",  # gloo besides NCCL, because the processes agree by tensors on the CPU
            store=_store(timeout),
            rank=processes.rank,
            world_size=processes.world_size,
            timeout=timeout,
        )
        try:
            yield this_process()
        finally:
            dist.destroy_process_group()
    except RuntimeError as error:
        raise_if_lost(error, processes, when="at the start or the end")
        raise


@contextmanager
def sharing(settings: LaunchSettings, *, device: str) -> Iterator[Processes]:
    """`process_group` for a verb with a key `device`; only the first process prints anything but errors."""
    with process_group(device=device, timeout_s=60 * settings.timeout_minutes, key="device") as processes:
        if processes.is_first:
            yield processes
            return
        LOGGER.setLevel(logging.ERROR)
        with redirect_stdout(None):
            yield processes


def _store(timeout: timedelta) -> Any:
    """Returns the store in which the processes find each other; None leaves it to torch.

    The store of torch's agent outlives the processes: after a restart, it would give the addresses of dead ones.
    """
    import torch.distributed as dist

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=timeout)
    return dist.PrefixStore(f"restart-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
