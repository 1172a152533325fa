"""Optimizers get what the configuration says, over named groups."""

import pytest
import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.training.optimizer import CENTRES, SGD, AdamW


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


@pytest.mark.parametrize("cls", [SGD, AdamW])
@pytest.mark.parametrize("name", ["backbone.conv1.weight", CENTRES])
def test_step_that_a_scaler_skips_leaves_no_trace_in_the_state(name, cls):
    """Also where torch fills memory that was not written with NaN, as its deterministic mode does."""

    def trained(gradients: list[float]) -> torch.Tensor:
        weight = nn.Parameter(torch.tensor([2.0, -1.0]))
        optimizer, scaler = cls(lr=0.1).build([(name, weight)]), torch.amp.GradScaler("cpu", init_scale=2.0)
        for gradient in gradients:
            scaler.scale((weight * gradient).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return weight.detach()

    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(trained([float("inf"), 0.5, 0.25]), trained([0.5, 0.25]))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("cls", [SGD, AdamW])
def test_parameter_that_gets_its_first_gradient_later_begins_as_if_it_were_alone(cls):
    def trained(names: str) -> torch.Tensor:
        weights = {name: nn.Parameter(torch.tensor([2.0, -1.0])) for name in names}
        optimizer = cls(lr=0.1).build(weights.items())
        for step in range(4):
            for name, weight in weights.items():
                weight.grad = torch.tensor([0.5, 0.25]) if name == "a" or step >= 2 else None
            optimizer.step()
        return weights["b"].detach()

    assert torch.equal(trained("ab"), trained("b"))


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


def faces() -> nn.Module:
    torch.manual_seed(0)
    net, objective = nn.Module(), nn.Module()
    net.backbone = nn.ModuleDict({"conv1": nn.Linear(3, 4), "layer1": nn.Linear(4, 4)})
    net.neck = nn.Linear(4, 2)
    net.objective = objective
    objective.head = nn.Linear(2, 5, bias=False)
    return net.double()


@pytest.mark.parametrize("cls", [SGD, AdamW])
def test_factors_scale_the_update_of_their_parameters_exactly(cls):
    def update(lr_factors) -> dict[str, torch.Tensor]:
        net = faces()
        optimizer = cls(lr=0.5, weight_decay=0.01, decay_norms_and_biases=False, lr_factors=lr_factors).build(
            net.named_parameters()
        )
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * group["lr_factor"]
        before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, 0.25)
        optimizer.step()
        return {name: parameter.detach() - before[name] for name, parameter in net.named_parameters()}

    plain = update({})
    scaled = update({"backbone": 0.125, "backbone.layer1": 2.0, "neck": 1.0, "head": 0.0})
    factors = {"backbone.conv1": 0.125, "backbone.layer1": 2.0, "neck": 1.0, "objective.head": 0.0}
    for name, value in scaled.items():
        factor = next(factor for beginning, factor in factors.items() if name.startswith(beginning))
        torch.testing.assert_close(value, factor * plain[name], rtol=1e-12, atol=1e-16)
        assert torch.count_nonzero(plain[name]) == plain[name].numel()


def test_factors_make_groups_that_carry_them():
    groups = SGD(lr=0.1, weight_decay=0.2, decay_norms_and_biases=False, lr_factors={"head": 10.0}).build(
        faces().named_parameters()
    )
    found = [(group["names"], group["weight_decay"], group["lr_factor"]) for group in groups.param_groups]
    assert found == [
        (["backbone.conv1.weight", "backbone.layer1.weight", "neck.weight"], 0.2, 1.0),
        (["backbone.conv1.bias", "backbone.layer1.bias", "neck.bias"], 0.0, 1.0),
        (["objective.head.weight"], 0.2, 10.0),
    ]


def test_factors_of_names_that_do_not_exist_are_refused():
    SGD(lr=0.1, lr_factors={"loss": 1.0, "backbone": 0.1}).build(faces().named_parameters())  # no terms: asks nothing
    with pytest.raises(ConfigError, match=r"optimizer\.lr_factors\.backbone\.layer2: .* did you mean backbone\.layer1"):
        SGD(lr=0.1, lr_factors={"backbone.layer2": 1.0}).build(faces().named_parameters())
    with pytest.raises(ConfigError, match=r"optimizer\.lr_factors\.loss: "):
        AdamW(lr=0.1, lr_factors={"loss": 0.5}).build(faces().named_parameters())
    with pytest.raises(ConfigError, match=r"optimizer\.lr_factors\.neck holds -1\.0"):
        AdamW(lr=0.1, lr_factors={"neck": -1.0})
