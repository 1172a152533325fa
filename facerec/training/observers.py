"""Observers see everything that happens in a training and change nothing: figures, pictures, lists, averages."""

from dataclasses import dataclass

import torch

from facerec.core.batch import Batch
from facerec.losses.objective import ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """The result of one optimizer update.

    Attributes:
        step: the number of the step, from 0.
        lr: the learning rate, before the factors of single parts.
        grad_norm: scalar, the norm of the network's gradient before clipping.
        is_skipped: True if a gradient overflowed in fp16, so that the weights did not change.
        waited_s: seconds for which this process waited for its micro-batches.
    """

    step: int
    lr: float
    grad_norm: torch.Tensor
    is_skipped: bool
    waited_s: float


class Observer:
    """Observes a training. A subclass overrides the methods that it needs; here they do nothing.

    All processes call the same methods of the same observers in the same order, so a method may call collectives. An
    exception ends the training. An observer changes no weights, gradients or random numbers.
    """

    def start(self, step: int) -> None:
        """Is called before the first step; `step` steps were done before."""

    def before_forward(self, batch: Batch, images_BCHW: torch.Tensor) -> None:
        """Is called with a micro-batch and its images as the network will get them: augmented and normalised."""

    def after_micro_batch(self, batch: Batch, output: ObjectiveOutput) -> None:
        """Is called after the forward and the backward pass of a micro-batch."""

    def after_step(self, outcome: StepOutcome) -> None:
        """Is called after an optimizer update."""

    def log(self, step: int) -> None:
        """Is called after `step` steps, whenever a line of figures is due."""

    def before_save(self, step: int) -> None:
        """Is called before the checkpoint of `step` steps is saved."""

    def close(self) -> None:
        """Is called at the end, even if the training has failed."""
