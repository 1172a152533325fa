"""`launch.processes=` and `launch.gpus=`: trains in several processes of this machine, which this one looks after."""

import json
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import given_config_dir
from facerec.cli.launching.exit_codes import USER_ERROR, started_with_others
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, LostProcessError
from facerec.core.threads import num_cores
from facerec.processes.stop_signal import STOP_FILE, StopSignal

CONFIG_FILE, TASK_FILE = "config.yaml", "task.json"


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """The section `launch`.

    Args:
        processes: how many to start on the CPU of this machine, or None.
        gpus: how many to start on this machine with a GPU each, or None. Without either, this process trains.
        max_restarts: how often all are started again after one of them has died.
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
        """How many to start; None where this process trains."""
        return self.processes if self.gpus is None else self.gpus

    def check_machine(self, *, device: str) -> None:
        """Refuses what this machine cannot do.

        Args:
            device: trainer.device.

        Raises:
            ConfigError: torchrun has started this process; the device is another one; there are not so many GPUs.
        """
        if self.num_processes is None:
            return
        given = f"launch.processes={self.processes}" if self.gpus is None else f"launch.gpus={self.gpus}"
        if started_with_others():
            raise ConfigError(f"{given} under torchrun, which has started the processes already: leave it null")
        if self.gpus is None:
            if device != "cpu" and (device != "auto" or torch.cuda.is_available()):
                raise ConfigError(
                    f"{given} trains on the CPU, trainer.device={device} on something else: give trainer.device=cpu, "
                    f"or launch.gpus={self.processes}"
                )
            return
        if device not in ("auto", "cuda"):
            raise ConfigError(
                f"{given} gives each process a GPU of its own, which trainer.device={device} does not leave to it: use "
                "trainer.device=auto"
            )
        if self.gpus > (found := torch.cuda.device_count()):
            raise ConfigError(f"{given}, but torch finds {found} on this machine")


def launch(config: DictConfig, overrides: list[str], run_dir: Path, settings: LaunchSettings) -> int:
    """Trains in several processes to the end, or to a signal. Returns the exit code.

    Args:
        config: composed and checked; the processes get it as it is.
        overrides: it was composed from.
        run_dir: where it trains.
        settings: its section `launch`, with a number of processes.

    Raises:
        LostProcessError: a process has died once more often than settings.max_restarts, or while it was to stop.
    """
    from facerec.cli.launching.elastic_agent import POLL_S, how_it_died, is_user_error, make_agent

    assert settings.num_processes is not None
    with TemporaryDirectory(prefix="facerec-") as name, StopSignal() as stop:
        folder = Path(name)
        stop_file = folder / "stop"
        _write_task(folder, config, overrides, run_dir, num_processes=settings.num_processes, stop_file=stop_file)
        agent = make_agent(
            [sys.executable, "-m", "facerec.cli.launching.worker", name],
            num_processes=settings.num_processes,
            max_restarts=settings.max_restarts,
            folder=folder,
            is_stopping=lambda: stop.requested is not None,
        )
        # In a thread of its own, where torch leaves signals to this one.
        with ThreadPoolExecutor(max_workers=1) as threads:
            running = threads.submit(agent.run)
            try:
                while not running.done():
                    wait([running], timeout=POLL_S)
                    if stop.requested is not None and not stop_file.exists():
                        with atomic_file(stop_file) as file:
                            file.write(stop.requested.encode())
            finally:
                while not running.done():
                    agent.kill()
                    wait([running], timeout=POLL_S)
        result = running.result()
    if not result.is_failed():
        return 0
    if is_user_error(result):
        return USER_ERROR
    when = "before it could stop" if stop.requested else f"after {settings.max_restarts} restarts (launch.max_restarts)"
    raise LostProcessError(f"{how_it_died(result)} {when}; the same command goes on from the last checkpoint")


def _write_task(
    folder: Path, config: DictConfig, overrides: list[str], run_dir: Path, *, num_processes: int, stop_file: Path
) -> None:
    """What the processes read at their start."""
    num_threads = max(1, num_cores() // num_processes)  # unless trainer.num_threads says otherwise
    task = {
        "launcher": os.getpid(),
        "environment": {STOP_FILE: str(stop_file), "OMP_NUM_THREADS": str(num_threads)},
        "overrides": overrides,
        "config_dir": given_config_dir(),
        "run_dir": str(run_dir),
    }
    OmegaConf.save(config, folder / CONFIG_FILE)
    (folder / TASK_FILE).write_text(json.dumps(task))
