"""Ctrl-C and SIGTERM as a request to stop at the end of a step."""

import os
import signal
from types import FrameType
from typing import Any


class StopSignal:
    """While active, SIGINT or SIGTERM sets `requested` to its name; Ctrl-C after that interrupts at once.

    A second SIGTERM does not: those who send one often send it to the process and to its group.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = signal.Signals(number).name
        # The logger may hold its lock, or be in the middle of a write: here only a plain write is safe.
        os.write(2, f"\n{self.requested}: stopping at the end of this step, with a checkpoint\n".encode())
