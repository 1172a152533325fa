"""The PReLU with its own backward pass stands beside torch's."""

import pytest
import torch
from torch import nn

from facerec.networks.prelu import PReLU


def both(x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    results = []
    for cls in (PReLU, nn.PReLU):
        module = cls(weight.numel()).to(weight.dtype)
        with torch.no_grad():
            module.weight.copy_(weight)
        inputs = x.clone().requires_grad_()
        output = module(inputs)
        output.backward(grad)
        results.append((output.detach(), inputs.grad, module.weight.grad))
    return results


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(4, 16, 9, 7), (1, 3, 1, 1), (2, 64, 28, 28)])
def test_values_and_gradients_are_torchs(shape, memory_format):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format)
    x.flatten()[::5] = 0.0
    weight = torch.linspace(-0.5, 1.5, shape[1], dtype=torch.float64)
    grad = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format)
    (value, grad_x, grad_weight), (their_value, their_grad_x, their_grad_weight) = both(x, grad, weight)
    assert torch.equal(value, their_value)
    torch.testing.assert_close(grad_x, their_grad_x, rtol=1e-14, atol=0)
    torch.testing.assert_close(grad_weight, their_grad_weight, rtol=1e-12, atol=1e-12)
    assert grad_x.stride() == their_grad_x.stride()


def test_zero_gets_the_slope_of_the_negative_side():
    x, weight = torch.zeros(1, 2, 1, 1), torch.tensor([0.25, -3.0])
    (_, grad_x, grad_weight), _ = both(x, torch.ones_like(x), weight)
    assert grad_x.flatten().tolist() == [0.25, -3.0] and grad_weight.tolist() == [0.0, 0.0]


def test_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    module = PReLU(3).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(module, {"weight": w}, x), (x, module.weight)
    )


def test_gradients_of_bf16_activations_are_summed_in_fp32():
    torch.manual_seed(0)
    x, grad = torch.randn(8, 4, 32, 32).bfloat16(), torch.rand(8, 4, 32, 32).bfloat16()
    module = PReLU(4)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)
    output.backward(grad.to(output.dtype))
    expected = torch.where(x > 0, 0.0, grad.double() * x.detach().double()).sum((0, 2, 3))
    assert module.weight.grad.dtype == torch.float32 and x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(module.weight.grad.double(), expected, rtol=2e-3, atol=0)


def test_other_shapes_and_compilers_get_torchs_own():
    x = torch.randn(5, 3)
    assert torch.equal(PReLU(3)(x), nn.PReLU(3)(x))
    assert PReLU(3).state_dict().keys() == nn.PReLU(3).state_dict().keys()
