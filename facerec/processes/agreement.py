"""Errors that all processes raise together, and flags on which they agree at the end of a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from facerec.core.errors import FacerecError

if TYPE_CHECKING:  # importing it would import torch
    from facerec.processes.group import Processes


class Agreement:
    """Holds errors of one process until all processes know them: raised alone, they leave the others in a collective.

    Args:
        processes: the processes that train together; with one process, errors are raised immediately.

    Attributes:
        error: the first held error, or None.
    """

    def __init__(self, processes: "Processes") -> None:
        self.processes = processes
        self.error: FacerecError | None = None

    @contextmanager
    def holding_errors(self) -> Iterator[None]:
        """Holds a FacerecError for `reach`."""
        try:
            yield
        except FacerecError as error:
            if self.processes.world_size == 1:
                raise
            self.error = self.error or error

    def reach(self, *flags: bool) -> list[bool]:
        """Returns for each flag whether any process has set it. All must call it; raises if one holds an error."""
        failed, *raised = self.processes.any(self.error is not None, *flags)
        if failed:
            self.processes.raise_together(self.error)
        return raised


@contextmanager
def failing_together(processes: "Processes | None") -> Iterator[None]:
    """Raises on all processes at its end, see `Processes.raise_together`, if one raised an error in the block.

    The block itself calls no collective. An error that is not a `FacerecError` passes through and ends its process.
    None means this process alone.
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
