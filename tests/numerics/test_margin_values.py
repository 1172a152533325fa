"""Values and gradients of the combined margin against float64 formulas, from 0 to pi and at both ends."""

import math

import numpy as np
import pytest
import torch

from facerec.heads.margins import CombinedMargin

THETA_RAD = np.concatenate([np.linspace(0, math.pi, 4001), np.geomspace(1e-4, 1e-1, 400)])
THETA_RAD = np.unique(np.concatenate([THETA_RAD, math.pi - THETA_RAD]))


def family(config: dict) -> dict:
    return {key: config[key] for key in ("m1", "m2", "m3", "beyond_pi")}


def psi(theta: np.ndarray, *, m1: float, m2: float, m3: float, beyond_pi: str) -> np.ndarray:
    """FACTS section 1, analytic in theta, so that a complex step gives its derivative to the last digit."""
    u = m1 * theta + m2
    if beyond_pi == "monotone":
        k = np.floor(u.real / math.pi)
        return (-1.0) ** k * np.cos(u) - 2 * k - m3
    if beyond_pi == "linear":
        return np.where(u.real > math.pi, np.cos(theta) - m2 * math.sin(m2), np.cos(u)) - m3
    return np.cos(u) - m3


def reference(cos: np.ndarray, **margin) -> tuple[np.ndarray, np.ndarray]:
    """psi and d psi / d cos = (d psi / d theta) / (-sin theta) of float64 cosines inside (-1, 1)."""
    theta = np.arccos(cos)
    slope_in_theta = psi(theta + 1e-30j, **margin).imag / 1e-30
    return psi(theta.astype(complex), **margin).real, slope_in_theta / -np.sqrt((1 - cos) * (1 + cos))


def evaluate(margin: CombinedMargin, cos: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    cos = cos.clone().requires_grad_()
    value = margin.target(cos)
    (slope,) = torch.autograd.grad(value.sum(), cos)
    return value.detach().double().numpy(), slope.double().numpy()


@pytest.mark.parametrize("beyond_pi", ["monotone", "linear", "none"])
@pytest.mark.parametrize(
    "dtype, value_atol, slope_rtol", [(torch.float32, 2e-6, 1e-5), (torch.float64, 1e-14, 1e-10)], ids=["fp32", "fp64"]
)
def test_margin_matches_the_formula_at_the_same_rounded_cosine(margin_config, beyond_pi, dtype, value_atol, slope_rtol):
    arguments = family(margin_config) | {"beyond_pi": beyond_pi}
    cos = torch.tensor(np.cos(THETA_RAD), dtype=dtype)
    rounded = cos.double()
    outside_zone = ((1 - rounded) * (1 + rounded)).sqrt() > 1e-3  # inside, the gradient is clamped by definition
    if beyond_pi == "linear":  # at the jump itself either side is right
        outside_zone &= (arguments["m1"] * rounded.acos() + arguments["m2"] - math.pi).abs() > 1e-5
    cos, rounded = cos[outside_zone], rounded[outside_zone].numpy()
    assert len(rounded) > 4000

    value, slope = evaluate(CombinedMargin(**arguments), cos)
    expected_value, expected_slope = reference(rounded, **arguments)

    np.testing.assert_allclose(value, expected_value, rtol=0, atol=value_atol)
    np.testing.assert_allclose(slope, expected_slope, rtol=slope_rtol, atol=slope_rtol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_cosines_are_computed_in_fp32(margin_config, dtype):
    arguments = family(margin_config)
    cos = torch.tensor(np.cos(THETA_RAD), dtype=dtype)
    cos = cos[cos.abs() < 1].unique()
    value = CombinedMargin(**arguments).target(cos)
    assert value.dtype == torch.float32
    np.testing.assert_allclose(value.numpy(), reference(cos.double().numpy(), **arguments)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_have_exact_values_and_clamped_finite_gradients(margin_config, dtype):
    arguments = family(margin_config)
    m1, m2 = arguments["m1"], arguments["m2"]
    epsilon = torch.finfo(dtype).eps  # a rounded dot product of unit vectors may step outside [-1, 1]
    value, slope = evaluate(CombinedMargin(**arguments), torch.tensor([1 + epsilon, 1, -1, -1 - epsilon], dtype=dtype))
    expected_value = psi(np.array([0, 0, math.pi, math.pi], dtype=complex), **arguments).real
    np.testing.assert_allclose(value, expected_value, rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-14)
    if m1 == 1 and m2 == 0:
        expected_slope = [1.0] * 4
    else:
        expected_slope = [m1 * abs(math.sin(u)) / 1e-3 for u in (m2, m2, m1 * math.pi + m2, m1 * math.pi + m2)]
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-3)


def test_fp32_gradient_of_arcface_is_bounded_by_the_clamp():
    cos = [torch.ones(())]
    for _ in range(2000):
        cos.append(torch.nextafter(cos[-1], torch.zeros(())))
    near_one = torch.stack(cos)
    _, slope = evaluate(CombinedMargin(m2=0.5), torch.cat([near_one, -near_one]))
    assert slope[0] == pytest.approx(math.sin(0.5) / 1e-3, rel=1e-5)  # 479.4
    assert slope.max() <= math.sin(0.501) / 1e-3 * (1 + 1e-6)  # 480.3, where sin(theta) leaves the clamp


def test_target_falls_with_the_angle_and_has_no_jump(margin_config):
    arguments = family(margin_config)
    cos = torch.tensor(np.cos(np.linspace(0, math.pi, 20001)))
    value, slope = evaluate(CombinedMargin(**arguments), cos)
    steps = np.diff(value)
    assert (steps < 0).all()
    assert np.abs(steps).max() <= 1.4 * math.pi / 20000  # |d psi / d theta| <= m1
    in_theta = slope * np.sqrt(1 - cos.numpy() ** 2)
    assert np.abs(np.diff(in_theta)[20:-20]).max() <= 2 * math.pi / 20000  # |d2 psi / d theta2| <= m1^2


@pytest.mark.parametrize("theta_deg, published", [(10, 230), (60, 73.9), (150, 3.0)])
def test_gradient_of_arcface_at_three_angles(theta_deg, published):
    _, slope = evaluate(CombinedMargin(m2=0.5), torch.tensor([math.cos(math.radians(theta_deg))]))
    assert 64 * slope[0] == pytest.approx(published, rel=0.01)


def test_cm1_at_cosine_one_half():
    value, _ = evaluate(CombinedMargin(m1=1.0, m2=0.3, m3=0.2), torch.tensor([0.5]))
    assert value[0] == pytest.approx(0.0217, abs=5e-5)


@pytest.mark.parametrize("theta_deg, unguarded", [(150, -0.9997), (160, -0.9886)])
def test_guard_beyond_pi(theta_deg, unguarded):
    cos = torch.tensor([math.cos(math.radians(theta_deg))])
    value = {
        guard: CombinedMargin(m2=0.5, beyond_pi=guard).target(cos).item() for guard in ("monotone", "linear", "none")
    }
    assert value["none"] == pytest.approx(unguarded, abs=1e-4)
    if math.radians(theta_deg) + 0.5 < math.pi:
        assert value["monotone"] == value["linear"] == value["none"]
    else:
        assert value["monotone"] == pytest.approx(-2 - unguarded, abs=1e-4)
        assert value["linear"] == pytest.approx(cos.item() - 0.5 * math.sin(0.5), abs=1e-6)


def test_second_derivative_is_exact():
    cos = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(CombinedMargin(m1=0.9, m2=0.4, m3=0.15).target, (cos,))
