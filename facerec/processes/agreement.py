"""Errors that all processes raise together, and flags on which they agree at the end of a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from facerec.core.errors import FacerecError

if TYPE_CHECKING:  # which brings torch
    from facerec.processes.group import Processes


class Agreement:
    """Errors of one process that wait until all can know: raised alone, they would leave the others in a collective.

    Args:
        processes: those that train together; alone, errors are raised at once.

    Attributes:
        error: the first that was held, or None.
    """

    def __init__(self, processes: "Processes") -> None:
        self.processes = processes
        self.error: FacerecError | None = None

    @contextmanager
    def holding_errors(self) -> Iterator[None]:
        """Keeps a FacerecError for `reach`."""
        try:
            yield
        except FacerecError as error:
            if self.processes.world_size == 1:
                raise
            self.error = self.error or error

    def reach(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process has raised it. All must call it; raises where one holds an error."""
        failed, *raised = self.processes.any(self.error is not None, *flags)
        if failed:
            self.processes.raise_together(self.error)
        return raised


@contextmanager
def failing_together(processes: "Processes | None") -> Iterator[None]:
    """Around work that all processes do: raises at its end, see `Processes.raise_together`, what one of them raised.

    The work itself calls no collective. An error that is no `FacerecError` passes through: it ends its process. None is
    this process alone.
    """
    if processes is None:
        yield
        return
    error: FacerecError | None = None
    try:
        yield
    except FacerecError as caught:
        error = caught
    processes.raise_together(error)
