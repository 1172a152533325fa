"""Compares the loss of a training with that of an untrained network: at the first step, and after the warm-up."""

import math

import torch

from facerec.core.batch import Batch
from facerec.core.log import LOGGER
from facerec.losses.objective import Objective, ObjectiveOutput
from facerec.processes.group import ALONE, Processes
from facerec.training.early_warnings import above_untrained
from facerec.training.observers import Observer
from facerec.training.schedule import Schedule
from facerec.training.timetable import Timetable

MUCH_HIGHER = 1.25
"""A first loss is suspicious from this multiple of the expected one on. For few classes and short embeddings, the
expected one, which is for many classes, is itself too high."""

WINDOW_STEPS, WINDOW_SHARE = 100, 0.01
"""Steps whose mean loss is compared: at least 100, and at least this share of the training. In a long training, the
first hundred steps after the warm-up are still its beginning."""

MOST_SCHEDULE_POINTS = 1000


class FirstLoss(Observer):
    """Logs the loss of the first micro-batch beside that of an untrained network, and what the difference means.

    Args:
        objective: the objective of the training.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def after_micro_batch(self, batch: Batch, output: ObjectiveOutput) -> None:
        """Logs both losses in step 0."""
        if batch.step != 0 or batch.micro_index != 0:
            return
        expected = self.objective.expected_initial_loss()
        if expected is None:
            return
        assert output.target_cos_B is not None  # with a head
        line = first_loss_line(
            head_loss(output).item(),
            expected,
            mean_cos=output.target_cos_B.mean().item(),
            num_samples=len(batch),
            embedding_dim=self.objective.head.centres.embedding_dim,
        )
        LOGGER.info(line)


def first_loss_line(first: float, expected: float, *, mean_cos: float, num_samples: int, embedding_dim: int) -> str:
    """Returns the line about the loss before the first update, and that of an untrained network.

    Args:
        first: the loss of the head in a micro-batch.
        expected: see `facerec.heads.initial_loss`.
        mean_cos: mean cosine between the embeddings of the micro-batch and their class centres.
        num_samples: samples in the micro-batch.
        embedding_dim: length of an embedding. Cosines between random vectors deviate from 0 by its inverse root.
    """
    chance = max(0.1, 4 / math.sqrt(num_samples * embedding_dim))
    if mean_cos > chance:
        meaning = "the class centres are trained already"
    elif first > MUCH_HIGHER * expected or mean_cos < -chance:
        meaning = "it is higher than that of random class centres; check samples.png and the labels"
    else:
        meaning = "the class centres start at random"
    angle = math.degrees(math.acos(max(-1.0, min(1.0, mean_cos))))
    return (
        f"first loss {first:.2f}; an untrained head is expected at {expected:.2f}: {meaning} ({angle:.0f} degrees away)"
    )


def head_loss(output: ObjectiveOutput) -> torch.Tensor:
    """Returns the loss of the head alone, without the terms: a scalar on the device."""
    return output.logs.get("softmax", output.loss.detach())


class LossAfterWarmUp(Observer):
    """Warns once if the mean loss of a window of steps after the warm-up is above that of an untrained network.

    A window ends with the first line of figures after its last step, so that no tensor is fetched in between. The first
    window begins one window after the warm-up of the learning rate and the ramp of the margin.

    Args:
        objective: the objective of the training; without a head, nothing is compared.
        warmup_steps: see `end_of_warmup`.
        num_steps: steps of the whole training.
        processes: the processes of the training; their losses are averaged.
    """

    def __init__(
        self, *, objective: Objective, warmup_steps: int, num_steps: int, processes: Processes = ALONE
    ) -> None:
        self.objective = objective
        self.processes = processes
        self.window = max(WINDOW_STEPS, int(WINDOW_SHARE * num_steps))
        self.begins_at = warmup_steps + self.window
        self._ends = objective.head is None
        self._sum: torch.Tensor | float = 0.0
        self._num_micro_batches = 0

    def start(self, step: int) -> None:
        """Begins the first window no earlier than the training."""
        self.begins_at = max(self.begins_at, step)

    def after_micro_batch(self, batch: Batch, output: ObjectiveOutput) -> None:
        """Adds the loss of a step inside a window."""
        if self._ends or batch.step < self.begins_at:
            return
        self._sum = self._sum + head_loss(output)
        self._num_micro_batches += 1

    def log(self, step: int) -> None:
        """Compares the losses of a window that is complete, and begins the next."""
        if self._ends or step < self.begins_at + self.window:
            return
        assert isinstance(self._sum, torch.Tensor)
        total = self.processes.sum_(self._sum.reshape(1).float()).item()
        untrained = self.objective.expected_initial_loss()
        assert untrained is not None
        warning = above_untrained(
            loss=total / (self._num_micro_batches * self.processes.world_size),
            untrained=untrained,
            first_step=self.begins_at + 1,
            last_step=step,
        )
        self.begins_at, self._sum, self._num_micro_batches = step, 0.0, 0
        if warning is not None:
            LOGGER.warning(warning)
            self._ends = True


def end_of_warmup(schedule: Schedule, times: Timetable, *, ramp_epochs: float) -> int:
    """Returns the step from which the learning rate has passed its highest value, and the margin is whole.

    Long schedules are read at a thousand steps, so that this takes no time.

    Args:
        schedule: any schedule.
        times: length and epochs of the run.
        ramp_epochs: epochs over which the margin grows.
    """
    points = range(0, times.num_steps, max(1, times.num_steps // MOST_SCHEDULE_POINTS))
    highest = max(
        points,
        key=lambda step: schedule.factor(step, num_steps=times.num_steps, steps_per_epoch=times.steps_per_epoch),
    )
    return max(highest, int(times.steps_of(ramp_epochs)))
