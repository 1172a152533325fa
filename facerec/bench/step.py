"""Analyses the time of a training step from a profile of torch's: data, the network, the head, the collectives.

The trainer names the parts of its steps; everything else comes from the operators and collectives of the profile.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from facerec.training.step import AGREEMENT, PARTS, STEP

WARM_UP_STEPS = 3
COLLECTIVES = ("gloo:", "nccl:", "ncclDevKernel")
"""Prefixes of the names of operations that send and receive, on the CPU and on a GPU."""
NO_WORK = (
    *COLLECTIVES, "c10d::", "facerec.", "autograd::", "enumerate(", "DistributedDataParallel", "Optimizer.",
)  # fmt: skip
"""Prefixes of the names of operations that wait, or only contain other events."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Means over the steps of a profile without its first three, in seconds.

    Attributes:
        num_steps: the number of these steps.
        step_s: a whole step.
        part_s: each of the trainer's parts, on the thread that trains; on a GPU, the time to launch the work.
        collectives_s: time in which something is sent or awaited.
        exposed_s: the part of it in which this process computes nothing.
    """

    num_steps: int
    step_s: float
    part_s: dict[str, float] = field(default_factory=dict)
    collectives_s: float
    exposed_s: float


def step_anatomy(events: Iterable[FunctionEvent]) -> Anatomy | None:
    """Returns the anatomy of a profiled training; None if it has too few steps."""
    events = list(events)
    steps = _spans(event for event in events if event.name == STEP)[WARM_UP_STEPS:]
    if len(steps) == 0:
        return None
    agreements = [event for event in events if event.name == AGREEMENT]
    windows = _union(np.concatenate([steps, _spans(agreements)[WARM_UP_STEPS:]]))
    on_gpu = any(event.device_type == DeviceType.CUDA and event.name.startswith(COLLECTIVES) for event in events)
    device = DeviceType.CUDA if on_gpu else DeviceType.CPU
    there = [event for event in events if event.device_type == device]
    sending = _common(_union(_spans(event for event in there if event.name.startswith(COLLECTIVES))), windows)
    computing = _common(_union(_spans(event for event in there if not event.name.startswith(NO_WORK))), windows)
    parts = {part: _spans(event for event in events if event.name == part) for part in PARTS}
    return Anatomy(
        num_steps=len(steps),
        step_s=_length(windows) / len(steps),
        part_s={part: _length(_common(_union(spans), windows)) / len(steps) for part, spans in parts.items()},
        collectives_s=_length(sending) / len(steps),
        exposed_s=(_length(sending) - _length(_common(sending, computing))) / len(steps),
    )


def _spans(events: Iterable[FunctionEvent]) -> np.ndarray:
    """Returns starts and ends in microseconds, by start: (N, 2)."""
    spans = [(event.time_range.start, event.time_range.end) for event in events]
    return np.array(sorted(spans), dtype=np.float64).reshape(-1, 2)


def _union(spans: np.ndarray) -> np.ndarray:
    """Returns the same times as spans that neither overlap nor touch."""
    joined: list[list[float]] = []
    for start, end in sorted(map(tuple, spans)):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.array(joined, dtype=np.float64).reshape(-1, 2)


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the overlap of two unions."""
    found: list[Sequence[float]] = []
    i = j = 0
    while i < len(first) and j < len(second):
        start, end = max(first[i, 0], second[j, 0]), min(first[i, 1], second[j, 1])
        if start < end:
            found.append((start, end))
        if first[i, 1] < second[j, 1]:
            i += 1
        else:
            j += 1
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def _length(union: np.ndarray) -> float:
    """In seconds."""
    return float((union[:, 1] - union[:, 0]).sum()) / 1e6
