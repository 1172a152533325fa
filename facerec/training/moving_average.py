"""Keeps an exponential moving average of a network's weights."""

from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from facerec.networks.embedding_net import EmbeddingNet
from facerec.training.observers import Observer, StepOutcome


class MovingAverage(Observer):
    """A copy of the network whose weights follow the trained ones: a <- d a + (1 - d) w at the end of every step.

    d = min(decay, (1 + t) / (10 + t)) at step t, so that the first weights do not dominate the average. It starts with
    the weights after the first step. BN's running statistics are averaged in the same way, as timm does (torch's
    default copies the last ones), so that they come from the same steps as the weights.

    Args:
        network: the network that is trained, on its device; it is copied.
        decay: d of a long training, in (0, 1), for example 0.9999. It averages over about 1 / (1 - d) steps.

    Attributes:
        network: the average, in evaluation mode.
    """

    def __init__(self, network: EmbeddingNet, *, decay: float) -> None:
        self.decay = decay
        self._trained = network
        self._step = 0
        self._averaged = AveragedModel(network, multi_avg_fn=self._mix, use_buffers=True)
        self._averaged.requires_grad_(False).eval()
        self.network = cast(EmbeddingNet, self._averaged.module)

    def after_step(self, outcome: StepOutcome) -> None:
        """Adds the weights after a step; a skipped step has not changed them, and does not count."""
        if outcome.is_skipped:
            return
        self._step = outcome.step
        self._averaged.n_averaged.fill_(outcome.step)  # 0: a plain copy
        self._averaged.update_parameters(self._trained)

    def _mix(self, averaged: Any, current: Any, num_averaged: torch.Tensor | int) -> None:
        if averaged[0].is_floating_point():
            decay = min(self.decay, (1 + self._step) / (10 + self._step))
            get_ema_multi_avg_fn(decay)(averaged, current, num_averaged)
        else:  # BN's count of batches
            for mine, theirs in zip(averaged, current, strict=True):
                mine.copy_(theirs)
