"""Shows the figures of a running training: the bar, the lines of metrics, the histogram of angles."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from facerec.core.batch import Batch
from facerec.core.progress_bar import progress_bar
from facerec.losses.objective import ObjectiveOutput
from facerec.processes.group import ALONE, Processes
from facerec.runs.run_log import RunLog
from facerec.training.observers import Observer, StepOutcome
from facerec.training.timetable import Timetable


@dataclass(kw_only=True)
class _Gathered:
    """The figures since the last line. Tensors stay on the device.

    Attributes:
        started: the time of the last line, as `time.perf_counter` gives it.
        sums: the sum of each figure of the objective's logs, over the micro-batches.
        target_cos: the target cosines of each micro-batch, (B,).
        last: the outcome of the last step.
    """

    started: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0
    num_images: int = 0
    num_micro_batches: int = 0
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    target_cos: list[torch.Tensor] = field(default_factory=list)
    last: StepOutcome | None = None


class Progress(Observer):
    """Gathers figures on the device, and fetches them only to write a line.

    Args:
        run_log: receives the lines.
        timetable: the timetable of the run; the bar ends at its last step.
        processes: the processes of the training; their figures are combined, and only the first one shows a bar.
    """

    def __init__(self, *, run_log: RunLog, timetable: Timetable, processes: Processes = ALONE) -> None:
        self.run_log = run_log
        self.timetable = timetable
        self.processes = processes
        self.bar: Any = None
        self._gathered = _Gathered()

    def start(self, step: int) -> None:
        """Shows the bar and starts the clock."""
        self.bar = progress_bar(
            what="training",
            unit="steps",
            total=self.timetable.num_steps,
            done=step,
            delay_s=0,
            shown=self.processes.is_first,
        )
        self.clear()

    def clear(self) -> None:
        """Deletes the gathered figures, and starts the clock."""
        self._gathered = _Gathered()

    def after_micro_batch(self, batch: Batch, output: ObjectiveOutput) -> None:
        """Adds one micro-batch's figures; no tensor is fetched from the device."""
        gathered = self._gathered
        gathered.num_images += len(batch)
        gathered.num_micro_batches += 1
        for name, value in output.logs.items():
            gathered.sums[name] = gathered.sums[name] + value if name in gathered.sums else value
        if output.target_cos_B is not None:
            gathered.target_cos.append(output.target_cos_B)

    def after_step(self, outcome: StepOutcome) -> None:
        """Counts one optimizer step."""
        self._gathered.waited_s += outcome.waited_s
        self._gathered.last = outcome
        self.bar.update(1)

    def log(self, step: int) -> None:
        """Writes a line of means since the last line: loss, angle, learning rate, speed, share of waiting for data.

        The speed is the speed of all processes together, the waiting time that of the first.
        """
        gathered, world_size = self._gathered, self.processes.world_size
        assert gathered.last is not None
        sums = self.processes.sum_(torch.stack(list(gathered.sums.values()))).tolist()
        num_micro_batches = gathered.num_micro_batches * world_size
        means = {f"train/{name}": value / num_micro_batches for name, value in zip(gathered.sums, sums, strict=True)}
        seconds = time.perf_counter() - gathered.started
        speed, waiting = world_size * gathered.num_images / seconds, gathered.waited_s / seconds
        figures = {
            **means,
            "train/lr": gathered.last.lr,
            "train/grad_norm": float(gathered.last.grad_norm),
            "train/epoch": step / self.timetable.steps_per_epoch,
            "speed/images_per_s": speed,
            "speed/data_wait_share": waiting,
        }
        self.run_log.scalars(step, figures)
        angle = ""
        if gathered.target_cos:
            angles = self.processes.gather(torch.cat(gathered.target_cos)).acos().rad2deg().cpu().numpy()
            self.run_log.histogram(step, "train/target_angle_deg_histogram", angles)
            angle = f"angle {means['train/target_angle_deg']:.1f} deg, "
        self.bar.set_postfix_str(
            f"loss {means['train/loss']:.3f}, {angle}{speed:.0f} img/s, data wait {waiting:.0%}", refresh=False
        )
        self.clear()

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
