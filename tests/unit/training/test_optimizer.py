"""Optimizers get what the configuration says, over named groups."""

import pytest
import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.training.optimizer import SGD, AdamW


def module() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.PReLU(4)).double()
    net[1].weight.requires_grad_(False)
    return net


def test_one_group_with_all_that_is_trained_by_default():
    (group,) = SGD(lr=0.1, weight_decay=1e-4).build(module().named_parameters()).param_groups
    assert group["names"] == ["0.weight", "0.bias", "1.bias", "2.weight"]
    assert len(group["params"]) == 4 and group["weight_decay"] == 1e-4


@pytest.mark.parametrize("cls", [SGD, AdamW])
def test_vectors_can_be_left_out_of_weight_decay(cls):
    settings = cls(lr=0.1, weight_decay=0.05, decay_norms_and_biases=False)
    decayed, others = settings.build(module().named_parameters()).param_groups
    assert (decayed["names"], decayed["weight_decay"]) == (["0.weight"], 0.05)
    assert (others["names"], others["weight_decay"]) == (["0.bias", "1.bias", "2.weight"], 0.0)


def updated(settings, num_steps: int) -> torch.Tensor:
    weight = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    optimizer = settings.build([("w", weight)])
    for step in range(num_steps):
        weight.grad = torch.tensor([0.5, 0.25], dtype=torch.float64) * (step + 1)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)])
def test_sgd_uses_the_momentum_and_the_decay_of_the_configuration(momentum, nesterov):
    found = updated(SGD(lr=0.1, momentum=momentum, weight_decay=0.01, nesterov=nesterov), 3)
    weight = torch.tensor([2.0, -1.0], dtype=torch.float64)
    velocity = torch.zeros_like(weight)
    for step in range(3):
        gradient = torch.tensor([0.5, 0.25], dtype=torch.float64) * (step + 1) + 0.01 * weight
        velocity = momentum * velocity + gradient
        weight = weight - 0.1 * (gradient + momentum * velocity if nesterov else velocity)
    torch.testing.assert_close(found, weight, rtol=1e-14, atol=0)


def test_adamw_uses_the_betas_and_the_decay_of_the_configuration():
    found = updated(AdamW(lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2), 3)
    weight = torch.tensor([2.0, -1.0], dtype=torch.float64)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 4):
        gradient = torch.tensor([0.5, 0.25], dtype=torch.float64) * step
        weight = weight * (1 - 0.1 * 0.2)
        first = 0.8 * first + 0.2 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        weight = weight - 0.1 * (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-3)
    torch.testing.assert_close(found, weight, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: SGD(lr=-0.1), "optimizer.lr"),
        (lambda: SGD(lr=float("nan")), "optimizer.lr"),
        (lambda: SGD(lr=0.1, momentum=1.0), "optimizer.momentum"),
        (lambda: SGD(lr=0.1, weight_decay=-1e-4), "optimizer.weight_decay"),
        (lambda: SGD(lr=0.1, momentum=0.0, nesterov=True), "optimizer.nesterov=true"),
        (lambda: AdamW(lr=0.1, betas=(0.9, 1.0)), "optimizer.betas"),
        (lambda: AdamW(lr=0.1, eps=-1.0), "optimizer.eps"),
    ],
)
def test_settings_that_cannot_work_are_refused(build, says):
    with pytest.raises(ConfigError, match=says):
        build()
