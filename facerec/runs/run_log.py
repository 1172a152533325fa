"""Writes the logs of a training: metrics as JSON lines, and TensorBoard files."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.metric import Metric, details_of, values_of
from facerec.runs.run_directory import RunDirectory


class RunLog:
    """Scalars, histograms and images of one run. Nothing is opened before the first write.

    Args:
        run_dir: the run directory.
        tensorboard: write TensorBoard files too.
        writes: False if another process writes; all calls then do nothing.
    """

    def __init__(self, *, run_dir: str | Path, tensorboard: bool = True, writes: bool = True) -> None:
        self.files = RunDirectory(Path(run_dir).expanduser())
        self.tensorboard = tensorboard
        self.writes = writes
        self._writer: Any = None
        self._metrics: Any = None

    @property
    def metrics_path(self) -> Path:
        """Returns the path of the JSON lines: one object each, with "step", "time" and the metrics."""
        return self.files.metrics

    def start(self, first_step: int) -> None:
        """Opens the files. Drops lines of steps after `first_step`, which a killed run may have left."""
        if not self.writes:
            return
        self.files.path.mkdir(parents=True, exist_ok=True)
        if self.metrics_path.exists():
            kept = [line for line in read_metrics(self.metrics_path) if line["step"] <= first_step and first_step > 0]
            partial = self.metrics_path.with_suffix(".jsonl.partial")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
            os.replace(partial, self.metrics_path)
        self._metrics = open(self.metrics_path, "a")  # noqa: SIM115 - open for the length of the run
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.files.tensorboard), purge_step=first_step + 1)

    def metrics(self, step: int, metrics: Sequence[Metric], *, seconds: float) -> None:
        """Writes the metrics of all benchmarks like `scalars`, with their details; `seconds` is the time they took."""
        self.scalars(step, {**values_of(metrics), "eval/seconds": seconds}, metric_details=details_of(metrics))

    def scalars(self, step: int, values: dict[str, float], **more: Any) -> None:
        """Writes one JSON line, and one TensorBoard scalar for each value; names are paths such as train/loss.

        Args:
            step: number of optimizer steps done.
            values: the values, by name.
            more: plain values for the JSON line only.
        """
        if not self.writes:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.write(json.dumps({"step": step, "time": round(time.time(), 3), **finite, **more}) + "\n")
        self._metrics.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """Writes a histogram to TensorBoard."""
        if self._writer is not None:
            self._writer.add_histogram(name, values, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes uint8 (H, W, 3) RGB as a picture to TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes all files."""
        if self._metrics is not None:
            self._metrics.close()
        if self._writer is not None:
            self._writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a metrics.jsonl, without an incomplete last line, which a kill leaves."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
