"""The margin's arguments, its ramp, and what its functions leave alone."""

import math

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.heads.margins import CombinedMargin


@pytest.mark.parametrize(
    "arguments, key",
    [
        ({"m1": 0.0}, "head.m1"),
        ({"m1": -1.0}, "head.m1"),
        ({"m1": math.nan}, "head.m1"),
        ({"m2": 28.6}, "head.m2"),
        ({"m2": math.nan}, "head.m2"),
        ({"m3": math.inf}, "head.m3"),
        ({"beyond_pi": "wrap"}, "head.beyond_pi"),
        ({"gradient": "none"}, "head.gradient"),
    ],
)
def test_bad_arguments_name_the_key_and_the_value(arguments, key):
    with pytest.raises(ConfigError, match=key) as caught:
        CombinedMargin(**arguments)
    assert str(next(iter(arguments.values()))) in str(caught.value)


def test_ramp_runs_from_no_margin_to_the_whole_margin():
    margin = CombinedMargin(m1=1.35, m2=0.4, m3=0.15, beyond_pi="linear")
    assert margin.scaled(0.0) == CombinedMargin(beyond_pi="linear")
    assert margin.scaled(1.0) == margin
    half = margin.scaled(0.5)
    assert (half.m1, half.m2, half.m3) == pytest.approx((1.175, 0.2, 0.075))
    assert half.beyond_pi == "linear"


def test_without_an_angular_margin_any_number_passes_with_gradient_one():
    logits = torch.tensor([-30.0, -1.0, 0.5, 1.0, 30.0], requires_grad=True)
    values = CombinedMargin(m3=0.25).target(logits)
    values.sum().backward()
    assert torch.equal(values, logits.detach() - 0.25)
    assert torch.equal(logits.grad, torch.ones(5))


def test_not_a_number_is_not_hidden():
    assert CombinedMargin(m2=0.5).target(torch.tensor([math.nan])).isnan().all()
