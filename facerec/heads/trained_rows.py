"""The class centres that take part in a step, updated by a row optimizer instead of torch.optim.

Letters: C classes, K sub-centres per class, R = C * K centres, r of them in a step, D embedding dimensions.
"""

from collections.abc import Callable

import torch
from torch import nn

from facerec.heads.centres import ClassCentres
from facerec.heads.row_optimizer import RowOptimizer
from facerec.processes.group import ALONE, Processes

ROWS_PER_UPDATE = 2**16
"""Number of rows that are updated together; it bounds the memory of an update."""


class TrainedRows(nn.Module):
    """Gives the engine the drawn centres as a separate leaf, whose gradient has only their rows, and writes them back.

    The centres themselves get no gradient any more, so torch.optim skips them.

    Args:
        centres: the centres whose rows are updated.
        optimizer: makes the row optimizer of a parameter.
        fused: update rows inside the engine's backward pass, so that their gradient never exists as a whole.
        processes: the processes that hold the same centres; their gradients are summed.

    Attributes:
        classes: int64, sorted, the positions of the classes that take part; None for all.
        weight_rD, bias: the leaves for the engine; None between steps.
    """

    def __init__(
        self,
        *,
        centres: ClassCentres,
        optimizer: Callable[[torch.Tensor], RowOptimizer],
        fused: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        centres.requires_grad_(False)
        self._centres = [centres]  # in a list, so that it is not part of this module's state
        self.fused = fused
        self.processes = processes
        self.weight_optimizer = optimizer(centres.weight)
        self.bias_optimizer = None if centres.bias is None else optimizer(centres.bias)
        self.classes: torch.Tensor | None = None
        self.weight_rD: torch.Tensor | None = None
        self.bias: torch.Tensor | None = None
        self._rows: torch.Tensor | None = None
        self._lr = 0.0

    @property
    def centres(self) -> ClassCentres:
        """All centres."""
        return self._centres[0]

    def start_step(self, classes: torch.Tensor | None, *, lr: float) -> None:
        """Takes the rows of the drawn classes; None takes all."""
        weight_RD, bias_C = self.centres.weight.detach(), self.centres.bias
        num_sub = self.centres.num_sub_centres
        self.classes, self._rows, self._lr = classes, None, lr
        if classes is not None:
            sub_centres = torch.arange(num_sub, device=classes.device)
            self._rows = (classes[:, None] * num_sub + sub_centres).flatten()
        self.weight_rD = (weight_RD if self._rows is None else weight_RD[self._rows]).requires_grad_()
        if bias_C is not None:
            self.bias = (bias_C.detach().clone() if classes is None else bias_C.detach()[classes]).requires_grad_()

    def positions(self, labels_B: torch.Tensor) -> torch.Tensor:
        """Maps positions among the centres (-1 for none) to positions among the classes that take part."""
        if self.classes is None:
            return labels_B
        return torch.searchsorted(self.classes, labels_B).masked_fill_(labels_B < 0, -1)

    def update(self, rows: slice, gradient_rD: torch.Tensor) -> None:
        """Updates a range of the rows that take part; the chunked engine calls it if `fused`."""
        self.weight_optimizer.update(self.centres.weight, self._global(rows), gradient_rD, lr=self._lr)

    @torch.no_grad()
    def end_step(self, *, grad_scale: float, skipped: bool) -> None:
        """Updates the rows that the backward pass has not updated yet, and releases the leaves.

        Args:
            grad_scale: the factor on the gradients.
            skipped: change nothing, because a gradient of the step overflowed.
        """
        for leaf in (self.weight_rD, self.bias):
            if leaf is not None and leaf.grad is not None:
                self.processes.sum_(leaf.grad)
        if not skipped:
            if self.weight_rD is not None and self.weight_rD.grad is not None:
                gradient_rD = self.weight_rD.grad
                for first in range(0, len(gradient_rD), ROWS_PER_UPDATE):
                    rows = slice(first, min(first + ROWS_PER_UPDATE, len(gradient_rD)))
                    self.update(rows, gradient_rD[rows].div_(grad_scale))
            bias_C = self.centres.bias
            if self.bias_optimizer is not None and self.bias is not None and self.bias.grad is not None:
                assert bias_C is not None
                classes = slice(None) if self.classes is None else self.classes
                self.bias_optimizer.update(bias_C, classes, self.bias.grad.div_(grad_scale), lr=self._lr)
        self.weight_rD = self.bias = self.classes = self._rows = None

    def _global(self, rows: slice) -> slice | torch.Tensor:
        return rows if self._rows is None else self._rows[rows]
