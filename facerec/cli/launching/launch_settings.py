"""The section `launch`: how many processes of this machine share the work of a verb."""

import math
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.arguments import check_arguments
from facerec.cli.launching.exit_codes import started_with_others
from facerec.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """The section `launch`.

    Args:
        processes: number of processes on the CPU of this machine, or None.
        gpus: number of processes on this machine with one GPU each, or None. With neither, this one works alone.
        max_restarts: how often all processes are started again after one of them has died.
        timeout_minutes: how long a process waits for the others.

    Raises:
        ConfigError: processes and gpus are both set, or a number is out of range.
    """

    processes: int | None
    gpus: int | None
    max_restarts: int
    timeout_minutes: float

    def __post_init__(self) -> None:
        if self.processes is not None and self.gpus is not None:
            raise ConfigError(
                f"launch.processes={self.processes} and launch.gpus={self.gpus} are both set; one is for the CPU, "
                "the other for GPUs: set one of them to null"
            )
        for name in ("processes", "gpus"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ConfigError(f"launch.{name}={number}; expected a positive number, or null")
        if self.max_restarts < 0:
            raise ConfigError(f"launch.max_restarts={self.max_restarts}; expected 0 or more")
        if not 0 < self.timeout_minutes < math.inf:
            raise ConfigError(f"launch.timeout_minutes={self.timeout_minutes}; expected a positive number")

    @property
    def num_processes(self) -> int | None:
        """Returns the number of processes to start; None if this process does the work."""
        return self.processes if self.gpus is None else self.gpus

    def check_machine(self, *, device: str, key: str = "device") -> None:
        """Refuses settings that this machine cannot fulfil.

        Args:
            device: the device of the verb.
            key: the key of the device.

        Raises:
            ConfigError: torchrun has started this process; the device is another one; there are not enough GPUs.
        """
        if self.num_processes is None:
            return
        import torch

        given = f"launch.processes={self.processes}" if self.gpus is None else f"launch.gpus={self.gpus}"
        if started_with_others():
            raise ConfigError(f"{given} under torchrun, which has started the processes already: leave it null")
        if self.gpus is None:
            if device != "cpu" and (device != "auto" or torch.cuda.is_available()):
                raise ConfigError(
                    f"{given} works on the CPU, {key}={device} on something else: give {key}=cpu, or "
                    f"launch.gpus={self.processes}"
                )
            return
        if device not in ("auto", "cuda"):
            raise ConfigError(
                f"{given} gives each process its own GPU, but {key}={device} does not allow it: use {key}=auto"
            )
        if self.gpus > (found := torch.cuda.device_count()):
            raise ConfigError(f"{given}, but torch finds {found} on this machine")


def launch_settings(config: DictConfig) -> LaunchSettings:
    """Reads section `launch` of a configuration."""
    values: Any = OmegaConf.to_container(config.launch)
    return LaunchSettings(**check_arguments(LaunchSettings, values, section="launch"))
