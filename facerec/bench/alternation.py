"""Times two or more functions in alternation, so that other work on the machine affects all of them equally."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from facerec.core.progress_bar import progress_bar


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one call, over the rounds.

    Attributes:
        median_s, min_s: median and minimum of the calls.
        ratio: median over the rounds of the time divided by the first function's time in the same round.
        ratio_range: smallest and largest of these ratios.
    """

    median_s: float
    min_s: float
    ratio: float
    ratio_range: tuple[float, float]


def alternate(
    calls: Mapping[str, Callable[[], None]],
    *,
    rounds: int,
    device: torch.device,
    before: Mapping[str, Callable[[], None]] | None = None,
) -> dict[str, Timing]:
    """Calls each function once per round, in turn, after one round that does not count.

    Args:
        calls: functions by name; the others are compared with the first.
        rounds: 1 or more.
        device: the device to wait for after each call.
        before: functions by name that run before each call, and are not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in progress_bar(range(rounds + 1), what=f"timing {', '.join(calls)}", unit="rounds"):
        for name, call in calls.items():
            if before is not None:
                before[name]()
            _wait(device)
            started = time.perf_counter()
            call()
            _wait(device)
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    first = np.array(next(iter(seconds.values())))
    return {name: _timing(np.array(values), first) for name, values in seconds.items()}


def _timing(seconds: np.ndarray, first: np.ndarray) -> Timing:
    ratios = seconds / first
    return Timing(
        median_s=float(np.median(seconds)),
        min_s=float(seconds.min()),
        ratio=float(np.median(ratios)),
        ratio_range=(float(ratios.min()), float(ratios.max())),
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
