"""Runs a function in several processes that form a group, as a launcher would."""

import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from facerec.cli.launching.developer_warnings import CATEGORIES

TIMEOUT = timedelta(minutes=2)
"""How long a process waits for the others, so that a test of what hangs fails."""


def run_processes(world_size: int, function: Callable[..., Any], *arguments: Any, on_gpus: bool = False) -> list[Any]:
    """What `function(*arguments)` returns in each process, in the order of their ranks.

    Args:
        world_size: how many.
        function: at the top level of a module; returns tensors and plain values.
        arguments: what can be pickled.
        on_gpus: each has a GPU of its own, and NCCL beside gloo.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, args=(world_size, folder, function, arguments, on_gpus), nprocs=world_size)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _worker(
    rank: int,
    world_size: int,
    folder: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    on_gpus: bool,
) -> None:
    for category in CATEGORIES:  # as pyproject.toml has it for the process of the tests
        warnings.filterwarnings("error", category=category, module="facerec")
    torch.set_num_threads(1)
    if on_gpus:
        torch.cuda.set_device(rank)
    store, backend = f"file://{folder}/store", "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
    try:
        torch.save(function(*arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
