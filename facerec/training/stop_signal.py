"""Ctrl-C and SIGTERM as a request to stop at the end of a step."""

import signal
from types import FrameType
from typing import Any

from facerec.core.run_log import LOGGER


class StopSignal:
    """While active, the first SIGINT or SIGTERM sets `requested`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        LOGGER.warning("%s: stopping at the end of this step, with a checkpoint", signal.Signals(number).name)
