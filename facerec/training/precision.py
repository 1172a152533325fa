"""Number format and determinism of a run."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from facerec.core.log import LOGGER
from facerec.processes.group import ALONE, Processes

Precision = Literal["fp32", "bf16", "fp16", "fp64"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: Precision) -> torch.dtype:
    """Returns the type of weights and images: float64 for fp64, else float32."""
    return torch.float64 if precision == "fp64" else torch.float32


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Returns autocast for bf16 and fp16, and a context that does nothing for fp32 and fp64."""
    if precision in AUTOCAST:
        return torch.autocast(device.type, AUTOCAST[precision])
    return nullcontext()


def make_deterministic() -> None:
    """Allows only deterministic kernels from now on, in this process.

    Raises nothing; a kernel without a deterministic form raises at its use, and names itself.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def gradient_scaler(precision: Precision, device: torch.device, processes: Processes) -> torch.amp.GradScaler:
    """Returns the loss scaler of fp16; else one that does nothing. An overflow in one process counts in all."""
    enabled = precision == "fp16"
    if processes.world_size == 1:
        return torch.amp.GradScaler(device.type, enabled=enabled)
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

    return ShardedGradScaler(device.type, enabled=enabled)


def environment(device: torch.device, processes: Processes = ALONE) -> dict[str, Any]:
    """Returns what bit-exactness depends on; it is stored in checkpoints and compared on resuming."""
    import numpy
    import torchvision

    is_cuda = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "num_processes": processes.world_size,
    }


def warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warns if the `environment` of a checkpoint differs from that of the run that is resumed from it."""
    if changed := [f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]:
        LOGGER.warning("not bit-exact: this run resumes with %s", ", ".join(changed))
