"""The figures of a running training: the bar, the lines of metrics, the histogram of angles."""

import time
from typing import Any

import torch

from facerec.core.progress_bar import progress_bar
from facerec.processes.group import ALONE, Processes
from facerec.runs.run_log import RunLog


class Progress:
    """Gathers figures on the device and fetches them only when a line is written.

    Args:
        run_log: where lines go.
        first_step, num_steps: where the bar begins and ends.
        processes: whose figures are put together; only the first of them shows a bar.
    """

    def __init__(self, *, run_log: RunLog, first_step: int, num_steps: int, processes: Processes = ALONE) -> None:
        self.run_log = run_log
        self.processes = processes
        self.bar: Any = progress_bar(
            what="training", unit="steps", total=num_steps, done=first_step, delay_s=0, shown=processes.is_first
        )
        self.waited_s = 0.0
        self.clear()

    def clear(self) -> None:
        """Forgets what was gathered, and starts the clock."""
        self.waited_s = 0.0
        self._started = time.perf_counter()
        self._num_images = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._num_micro_batches = 0
        self._grad_norm: torch.Tensor | None = None
        self._lr = 0.0
        self._angles: list[torch.Tensor] = []

    def add_micro_batch(
        self, *, num_images: int, logs: dict[str, torch.Tensor], target_cos_B: torch.Tensor | None
    ) -> None:
        """Adds one micro-batch's figures; no tensor is fetched from the device."""
        self._num_images += num_images
        self._num_micro_batches += 1
        for name, value in logs.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        if target_cos_B is not None:
            self._angles.append(target_cos_B)

    def add_step(self, *, grad_norm: torch.Tensor, lr: float) -> None:
        """Counts one optimizer step."""
        self._grad_norm, self._lr = grad_norm, lr
        self.bar.update(1)

    def write(self, step: int, *, epoch: float) -> None:
        """One line of means since the last: loss, angle, rate, speed, share of time spent waiting for data.

        All processes must call it; the speed is of all, the waiting of the first.
        """
        sums = self.processes.sum_(torch.stack(list(self._sums.values()))).tolist()
        num_micro_batches = self._num_micro_batches * self.processes.world_size
        means = {f"train/{name}": value / num_micro_batches for name, value in zip(self._sums, sums, strict=True)}
        seconds = time.perf_counter() - self._started
        speed, waiting = self.processes.world_size * self._num_images / seconds, self.waited_s / seconds
        figures = {
            **means,
            "train/lr": self._lr,
            "train/grad_norm": float(self._grad_norm) if self._grad_norm is not None else 0.0,
            "train/epoch": epoch,
            "speed/images_per_s": speed,
            "speed/data_wait_share": waiting,
        }
        self.run_log.scalars(step, figures)
        angle = ""
        if self._angles:
            angles = self.processes.gather(torch.cat(self._angles)).acos().rad2deg().cpu().numpy()
            self.run_log.histogram(step, "train/target_angle_deg_histogram", angles)
            angle = f"angle {means['train/target_angle_deg']:.1f} deg, "
        self.bar.set_postfix_str(
            f"loss {means['train/loss']:.3f}, {angle}{speed:.0f} img/s, data wait {waiting:.0%}", refresh=False
        )
        self.clear()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.bar.close()
