"""PReLU with a backward pass that needs less memory traffic on the CPU."""

from typing import Any

import torch
from torch import nn


class PReLU(nn.PReLU):
    """Like nn.PReLU, with the same parameters and values.

    torch's backward pass writes a weight gradient of the size of the activations before it sums it up. On the CPU,
    where that takes a fifth of an IResNet's step, vectorised passes compute the two gradients instead.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and x.ndim == 4 and not torch.compiler.is_compiling():
            return _ChannelwisePReLU.apply(x, self.weight)
        return super().forward(x)


class _ChannelwisePReLU(torch.autograd.Function):
    """Takes x (B, C, H, W) and weight (C,); has first derivatives only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return torch.prelu(x, weight.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        grad_x = torch.ops.aten.threshold_backward(grad, x, 0)  # the gradient where x > 0
        grad_negative = grad - grad_x
        grad_x.addcmul_(grad_negative, weight.to(grad.dtype).view(1, -1, 1, 1))
        grad_weight = grad_negative.mul_(x).sum((0, 2, 3), dtype=weight.dtype)
        return grad_x, grad_weight
