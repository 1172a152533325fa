"""`launch.processes=` and `launch.gpus=`: runs a verb in several processes of this machine, and monitors them."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from types import FrameType

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import given_config_dir, own_command
from facerec.cli.launching.exit_codes import USER_ERROR
from facerec.cli.launching.launch_settings import LaunchSettings, launch_settings
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import LostProcessError
from facerec.core.threads import num_cores
from facerec.processes.stop_signal import STOP_FILE, StopSignal

CONFIG_FILE, TASK_FILE = "config.yaml", "task.json"


def in_processes(
    verb: str,
    config: DictConfig,
    overrides: list[str],
    *,
    work: Callable[[DictConfig, list[str]], int],
    device: str,
    key: str = "device",
    goes_on: str,
    finishes_step: bool = False,
) -> int:
    """Does the work of a verb in this process, or in as many as the section `launch` says. Returns the exit code.

    Args:
        verb, config, overrides, goes_on, finishes_step: see `launch`.
        work: the verb's `work`.
        device: what the verb computes on.
        key: the key of the device, for messages.

    Raises:
        ConfigError: this machine cannot do it.
        LostProcessError: see `launch`.
    """
    settings = launch_settings(config)
    settings.check_machine(device=device, key=key)
    if settings.num_processes is None:
        return work(config, overrides)
    return launch(verb, config, overrides, settings, goes_on=goes_on, finishes_step=finishes_step)


def launch(
    verb: str,
    config: DictConfig,
    overrides: list[str],
    settings: LaunchSettings,
    *,
    goes_on: str,
    finishes_step: bool = False,
) -> int:
    """Runs a verb in several processes to the end, or to a signal. Returns the exit code.

    Args:
        verb: its module has `work(config, overrides) -> int`, which each process calls.
        config: composed and checked; the processes get it unchanged.
        overrides: the overrides that it was composed from.
        settings: its section `launch`, with a number of processes.
        goes_on: says where the work resumes after a process has died, for messages: "from the last checkpoint".
        finishes_step: after a signal, wait for the processes, which watch a `StopSignal`; otherwise kill them.

    Raises:
        LostProcessError: processes have died more often than settings.max_restarts, or one died while stopping.
    """
    from facerec.cli.launching.elastic_agent import POLL_S, how_it_died, is_user_error, make_agent

    assert settings.num_processes is not None
    stop, is_ending = StopSignal(), Event()
    with TemporaryDirectory(prefix="facerec-") as name, stop if finishes_step else _interrupted_by_signals():
        folder = Path(name)
        stop_file = folder / "stop"
        _write_task(folder, verb, config, overrides, num_processes=settings.num_processes, stop_file=stop_file)
        agent = make_agent(
            [sys.executable, "-m", "facerec.cli.launching.worker", name],
            num_processes=settings.num_processes,
            max_restarts=settings.max_restarts,
            folder=folder,
            is_stopping=lambda: stop.requested is not None or is_ending.is_set(),
            goes_on=goes_on,
        )
        # In a separate thread, in which torch does not handle signals.
        with ThreadPoolExecutor(max_workers=1) as threads:
            running = threads.submit(agent.run)
            try:
                while not running.done():
                    wait([running], timeout=POLL_S)
                    if stop.requested is not None and not stop_file.exists():
                        with atomic_file(stop_file) as file:
                            file.write(stop.requested.encode())
            finally:
                is_ending.set()
                while not running.done():
                    agent.kill()
                    wait([running], timeout=POLL_S)
        result = running.result()
    if not result.is_failed():
        return 0
    if is_user_error(result):
        return USER_ERROR
    when = "before it could stop" if stop.requested else f"after {settings.max_restarts} restarts (launch.max_restarts)"
    raise LostProcessError(f"{how_it_died(result)} {when}; repeat the command to resume {goes_on}")


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1 interrupt as Ctrl-C does, so that the processes are ended."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_task(
    folder: Path, verb: str, config: DictConfig, overrides: list[str], *, num_processes: int, stop_file: Path
) -> None:
    """Writes the settings that the processes read at their start."""
    num_threads = max(1, num_cores() // num_processes)  # unless a key num_threads gives another number
    task = {
        "launcher": os.getpid(),
        "verb": verb,
        "environment": {STOP_FILE: str(stop_file), "OMP_NUM_THREADS": str(num_threads)},
        "overrides": overrides,
        "config_dir": given_config_dir(),
        "called_as": own_command(),
    }
    OmegaConf.save(config, folder / CONFIG_FILE)
    (folder / TASK_FILE).write_text(json.dumps(task))
