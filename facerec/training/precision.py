"""Device, number format and determinism of a run."""

import ctypes
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from facerec.core.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16", "fp64"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device for `auto` (CUDA if there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"trainer.device={name} cannot be used ({reason}); use auto, cpu, cuda or mps") from None
    return device


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast for bf16 and fp16, nothing for fp32 and fp64."""
    if precision in AUTOCAST:
        return torch.autocast(device.type, AUTOCAST[precision])
    return nullcontext()


def keep_freed_memory() -> None:
    """Makes glibc's allocator keep what tensors free, for training on the CPU. Elsewhere it does nothing.

    By default every large tensor is mapped afresh and given back, and its pages are faulted in again at each use: on a
    virtual machine that took a third of the time of a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_max, largest = -1, -4, 2**31 - 1
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, largest)


def make_deterministic() -> None:
    """Only deterministic kernels from now on, in this process.

    Raises nothing; a kernel that has no deterministic form raises at its use, naming itself.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def environment(device: torch.device) -> dict[str, Any]:
    """What bit-exactness depends on; stored in checkpoints, compared on resuming."""
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
        "num_processes": 1,
    }
