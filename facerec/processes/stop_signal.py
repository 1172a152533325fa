"""Ctrl-C, SIGTERM and SIGUSR1 as a request to stop at the end of a step."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

STOP_FILE = "FACEREC_STOP_FILE"
"""The environment variable with the path of a file: once the file exists, it holds the name of the signal that a
launcher received."""


class StopSignal:
    """While active, SIGINT, SIGTERM or SIGUSR1, or a launcher's file, sets `requested` to the signal's name; another
    Ctrl-C interrupts immediately.

    A second SIGTERM does not interrupt: senders often send it to the process and to its group.

    Args:
        announce: print a line immediately; False if a launcher does so.
    """

    def __init__(self, *, announce: bool = True) -> None:
        path = os.environ.get(STOP_FILE)
        self._file = None if path is None else Path(path)
        self._announce = announce and path is None
        self._signal: str | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> str | None:
        """Returns the name of the signal, or None."""
        if self._signal is None and self._file is not None and self._file.exists():
            self._signal = self._file.read_text()
        return self._signal

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._signal = signal.Signals(number).name
        if self._announce:
            # The logger may hold its lock, or be in the middle of a write: only a plain write is safe here.
            os.write(2, f"\n{self._signal}: stopping at the end of this step, with a checkpoint\n".encode())
