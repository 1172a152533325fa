"""The batch that the loader gives to the trainer for one micro-batch."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch. Letters: B samples, H x W pixels.

    Attributes:
        images: uint8 (B, H, W, 3), RGB, on the CPU (pinned if a GPU is used). Not normalised.
        labels: int64 (B,), identity numbers in 0 .. num_classes - 1.
        indices: int64 (B,), the samples' numbers in the data source; errors name samples by them.
        step: the optimizer step that this micro-batch belongs to, counted from 0.
        micro_index: number of the micro-batch within the step, counted from 0.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    step: int
    micro_index: int

    def __len__(self) -> int:
        return self.labels.shape[0]
