"""What looks on at a training without changing it: figures, pictures, lists, an average of the weights."""

from dataclasses import dataclass

import torch

from facerec.core.batch import Batch
from facerec.losses.objective import ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What an optimizer update came to.

    Attributes:
        step: its number, counted from 0.
        lr: its learning rate, before the factors of the parts.
        grad_norm: scalar, the norm of the network's gradient before clipping.
        is_skipped: True if fp16 left the weights as they were, since a gradient overflowed.
        waited_s: seconds that this process waited for its micro-batches.
    """

    step: int
    lr: float
    grad_norm: torch.Tensor
    is_skipped: bool
    waited_s: float


class Observer:
    """Looks on at a training. Every method does nothing until a subclass says otherwise.

    All processes call the same methods of the same observers in one order, so a method may call collectives. What it
    raises ends the training; it leaves weights, gradients and random numbers as they are.
    """

    def start(self, step: int) -> None:
        """Before anything is trained, with `step` steps done."""

    def before_forward(self, batch: Batch, images_BCHW: torch.Tensor) -> None:
        """With a micro-batch, and its images as they are about to enter the network: augmented and normalised."""

    def after_micro_batch(self, batch: Batch, output: ObjectiveOutput) -> None:
        """After the forward and the backward pass of a micro-batch."""

    def after_step(self, outcome: StepOutcome) -> None:
        """After an optimizer update."""

    def log(self, step: int) -> None:
        """Where a line of figures is due, after `step` steps."""

    def before_save(self, step: int) -> None:
        """Before a checkpoint of `step` steps is taken."""

    def close(self) -> None:
        """At the end, also of a training that fails."""
