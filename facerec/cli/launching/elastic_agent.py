"""torch's elastic agent for the processes of one machine: it starts them, and restarts all after one has died."""

import logging
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from facerec.cli.launching.exit_codes import USER_ERROR

POLL_S = 0.1
_HERE = "localhost"


class Agent(LocalElasticAgent):
    """Prints which process died, and does not restart after a user's error or after a request to stop.

    Args:
        spec: the command to start, and how often.
        folder: a folder for torch's own files.
        is_stopping: returns True after a request to stop.
        goes_on: says where the work resumes after a restart, for a message.
    """

    def __init__(self, *, spec: WorkerSpec, folder: Path, is_stopping: Callable[[], bool], goes_on: str) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=str(folder)))
        self._is_stopping = is_stopping
        self._goes_on = goes_on

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.is_failed():
            if self._is_stopping() or is_user_error(result):
                self._remaining_restarts = 0
            elif self._remaining_restarts > 0:
                most = worker_group.spec.max_restarts
                number = most - self._remaining_restarts + 1
                again = f"restart {number} of {most} (launch.max_restarts), {self._goes_on}"
                print(f"{how_it_died(result)}; {again}", file=sys.stderr, flush=True)
        return result

    def kill(self) -> None:
        """Kills the processes, and those that they started, without waiting for them."""
        if self._pcontext is not None:
            self._pcontext.close(signal.SIGKILL)


def make_agent(
    command: Sequence[str],
    *,
    num_processes: int,
    max_restarts: int,
    folder: Path,
    is_stopping: Callable[[], bool],
    goes_on: str,
) -> Agent:
    """Returns an agent whose `run` runs the command in several processes to their end.

    Args:
        command: program and arguments.
        num_processes: number of processes, all on this machine.
        max_restarts: how often all processes are started again.
        folder, is_stopping, goes_on: see `Agent`.
    """
    logging.getLogger("torch.distributed.elastic").addHandler(logging.NullHandler())
    logging.getLogger("torch.distributed.elastic").propagate = False
    parameters = RendezvousParameters(
        backend="c10d", endpoint=f"{_HERE}:0", run_id=uuid.uuid4().hex, min_nodes=1, max_nodes=1, local_addr=_HERE
    )
    spec: Any = WorkerSpec(
        role="facerec",
        local_world_size=num_processes,
        entrypoint=command[0],
        args=tuple(command[1:]),
        rdzv_handler=get_rendezvous_handler(parameters),
        max_restarts=max_restarts,
        monitor_interval=POLL_S,
        local_addr=_HERE,
    )
    return Agent(spec=spec, folder=folder, is_stopping=is_stopping, goes_on=goes_on)


def is_user_error(result: RunResult) -> bool:
    """True if a process has ended with an error that the user can fix, and that it has printed."""
    return any(failure.exitcode == USER_ERROR for failure in result.failures.values())


def how_it_died(result: RunResult) -> str:
    """Returns the process that failed first, and how: "process 1 was killed by SIGKILL"."""
    rank, failure = min(result.failures.items(), key=lambda item: _when(item[1]))
    if failure.exitcode < 0:
        return f"process {rank} was killed by {signal.Signals(-failure.exitcode).name}"
    return f"process {rank} ended with exit code {failure.exitcode}"


def _when(failure: ProcessFailure) -> tuple[int, bool]:
    """Sorts by the second, then a killed process first: the others end in the same second because they miss it."""
    return failure.timestamp, failure.exitcode >= 0
