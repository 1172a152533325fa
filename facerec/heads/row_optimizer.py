"""Optimizers of class centres by rows: rows that took no part in a step keep their values and their momentum.

torch.optim updates every entry of a parameter: with a dense gradient, momentum and weight decay keep pulling at centres
that were not drawn. The optimizers here can also run inside the chunked engine, on one range of rows after another.

Letters: R rows, D columns; r rows that take part.
"""

import math
from typing import Protocol

import torch
from torch import nn

Rows = slice | torch.Tensor


class RowOptimizer(Protocol):
    """Updates rows of one parameter. Its state is in buffers of the parameter's shape, so checkpoints save it."""

    def update(self, parameter: torch.Tensor, rows: Rows, gradient: torch.Tensor, *, lr: float) -> None:
        """Updates `parameter[rows]` in place from its gradient; overwrites the gradient."""
        ...


class RowSGD(nn.Module):
    """SGD like torch.optim.SGD, on rows.

    Args:
        parameter: the parameter to update, (R, D) or (R,); only its shape, type and device are read.
        momentum, weight_decay, nesterov: see torch.optim.SGD.
    """

    momentum_buffer: torch.Tensor

    def __init__(
        self, parameter: torch.Tensor, *, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__()
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        self.register_buffer("momentum_buffer", torch.zeros_like(parameter) if momentum else None)

    @torch.no_grad()
    def update(self, parameter: torch.Tensor, rows: Rows, gradient: torch.Tensor, *, lr: float) -> None:
        """See `RowOptimizer`."""
        values = parameter[rows]  # a view for a slice, a copy for an array of numbers
        step = gradient.add_(values, alpha=self.weight_decay) if self.weight_decay else gradient
        if self.momentum:
            running = self.momentum_buffer[rows].mul_(self.momentum).add_(step)
            _put(self.momentum_buffer, rows, running)
            step = step.add_(running, alpha=self.momentum) if self.nesterov else running
        _put(parameter, rows, values.add_(step, alpha=-lr))


class RowAdamW(nn.Module):
    """AdamW like torch.optim.AdamW, on rows; the bias correction counts the steps in which a row took part.

    Args:
        parameter: the parameter to update, (R, D) or (R,); only its shape, type and device are read.
        betas, eps, weight_decay: see torch.optim.AdamW.
    """

    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    num_updates: torch.Tensor

    def __init__(
        self,
        parameter: torch.Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.register_buffer("exp_avg", torch.zeros_like(parameter))
        self.register_buffer("exp_avg_sq", torch.zeros_like(parameter))
        shape = (len(parameter), *[1] * (parameter.ndim - 1))
        self.register_buffer("num_updates", torch.zeros(shape, dtype=torch.float32, device=parameter.device))

    @torch.no_grad()
    def update(self, parameter: torch.Tensor, rows: Rows, gradient: torch.Tensor, *, lr: float) -> None:
        """See `RowOptimizer`."""
        values = parameter[rows].mul_(1 - lr * self.weight_decay)
        first = self.exp_avg[rows].lerp_(gradient, 1 - self.betas[0])
        second = self.exp_avg_sq[rows].mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
        count = self.num_updates[rows] + 1
        for buffer, moved in ((self.exp_avg, first), (self.exp_avg_sq, second), (self.num_updates, count)):
            _put(buffer, rows, moved)
        first_bias, second_bias = (_bias_correction(beta, count.to(first.dtype)) for beta in self.betas)
        root = (second / second_bias).sqrt_().add_(self.eps)
        _put(parameter, rows, values.addcdiv_(first / first_bias, root, value=-lr))


def _bias_correction(beta: float, count: torch.Tensor) -> torch.Tensor:
    """Returns 1 - beta^count in the type of count, without the loss of digits of a difference if beta is near 1."""
    return -torch.expm1(count * (math.log(beta) if beta > 0 else -math.inf))


def _put(tensor: torch.Tensor, rows: Rows, values: torch.Tensor) -> None:
    if isinstance(rows, slice):
        tensor[rows] = values
    else:
        tensor.index_copy_(0, rows, values)
