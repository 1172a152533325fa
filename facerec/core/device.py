"""Chooses the device to compute on, and how the CPU's memory is treated."""

import ctypes

import torch

from facerec.core.errors import ConfigError


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
        raise ConfigError(f"device={name} cannot be used ({reason}); use auto, cpu, cuda or mps") from None
    return device


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
