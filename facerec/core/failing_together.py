"""An error of one process is raised in all, so that none waits in a collective for one that will not come."""

from collections.abc import Iterator
from contextlib import contextmanager

from facerec.core.errors import FacerecError
from facerec.core.processes import Processes


@contextmanager
def failing_together(processes: Processes) -> Iterator[None]:
    """Around work that all processes do: raises at its end, see `Processes.raise_together`, what one of them raised.

    The work itself calls no collective. An error that is no `FacerecError` passes through: it ends its process.
    """
    error: FacerecError | None = None
    try:
        yield
    except FacerecError as caught:
        error = caught
    processes.raise_together(error)
