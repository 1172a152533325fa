"""Chooses the device, and sets how the CPU's memory is managed."""

import ctypes

import torch

from facerec.core.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Returns the device for `auto` (CUDA if it is available, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ConfigError: the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device={name} cannot be used ({reason}); use auto, cpu, cuda or mps") from None
    return device


def keep_freed_memory() -> None:
    """Makes glibc's allocator keep freed tensors, for training on the CPU. On other systems it does nothing.

    By default every large tensor is mapped and unmapped, and each use faults its pages in again: on a virtual machine
    that took a third of the time of a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_max, largest = -1, -4, 2**31 - 1
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, largest)
