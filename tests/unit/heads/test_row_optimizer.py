"""Row optimizers against torch.optim, and what they leave alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facerec.heads.row_optimizer import RowAdamW, RowSGD

R, D = 40, 6
CASES = [
    (RowSGD, torch.optim.SGD, {}),
    (RowSGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 5e-4}),
    (RowSGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}),
    (RowAdamW, torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("rows_class, torch_class, arguments", CASES)
@pytest.mark.parametrize("as_numbers", [False, True])
def test_all_rows_move_as_under_torch(rows_class, torch_class, arguments, as_numbers):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(R, D, generator=generator, dtype=torch.float64)
    expected = start.clone().requires_grad_()
    optimizer = torch_class([expected], lr=0.1, **arguments)
    found = start.clone()
    rows_optimizer = rows_class(found, **arguments)
    parts = [torch.arange(25), torch.arange(25, R)] if as_numbers else [slice(0, 25), slice(25, R)]
    for _ in range(5):
        gradient = torch.randn(R, D, generator=generator, dtype=torch.float64)
        expected.grad = gradient.clone()
        optimizer.step()
        for rows in parts:
            rows_optimizer.update(found, rows, gradient[rows].clone(), lr=0.1)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows_class, torch_class, arguments", CASES)
def test_rows_that_take_no_part_keep_values_and_state(rows_class, torch_class, arguments):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(R, D, generator=generator)
    optimizer = rows_class(values, **arguments)
    optimizer.update(values, slice(0, R), torch.randn(R, D, generator=generator), lr=0.1)
    before = [values.clone(), *(buffer.clone() for buffer in optimizer.buffers())]
    rows = torch.tensor([3, 4, 30])
    optimizer.update(values, rows, torch.randn(3, D, generator=generator), lr=0.1)
    others = torch.ones(R, dtype=torch.bool).index_fill_(0, rows, False)
    for was, now in zip(before, [values, *optimizer.buffers()], strict=True):
        assert torch.equal(was[others], now[others])
        assert not torch.equal(was[rows], now[rows])


class NoFloat64(TorchDispatchMode):
    """Stands for a device without float64, such as Apple's MPS."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError(f"{func}: this device has no float64")
        return result


@pytest.mark.parametrize("rows_class, torch_class, arguments", CASES)
@pytest.mark.parametrize("rows", [slice(3, 9), torch.arange(3, 9)], ids=["slice", "numbers"])
def test_fp32_rows_move_without_float64(rows_class, torch_class, arguments, rows):
    values = torch.randn(R, D)
    optimizer = rows_class(values, **arguments)
    with NoFloat64():
        optimizer.update(values, rows, torch.randn(6, D), lr=0.1)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99999)])
def test_first_fp32_adamw_updates_are_as_exact_as_torchs(betas):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(R, D, generator=generator)
    expected = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([expected], lr=0.1, betas=betas)
    found = start.clone()
    rows_optimizer = RowAdamW(found, betas=betas, weight_decay=1e-2)
    for _ in range(3):
        gradient = torch.randn(R, D, generator=generator)
        expected.grad = gradient.clone()
        optimizer.step()
        rows_optimizer.update(found, slice(None), gradient.clone(), lr=0.1)
    torch.testing.assert_close(found, expected.detach(), rtol=2e-6, atol=1e-6)
