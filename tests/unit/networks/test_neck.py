"""The necks between a feature map and the embedding."""

import pytest
import torch
import torch.nn.functional as F

from facerec.core.errors import ConfigError
from facerec.networks.neck import FCBNFCBN, GDC, BNDropoutFCBN

NECKS = [BNDropoutFCBN, GDC, FCBNFCBN]


def neck(cls=BNDropoutFCBN, **arguments):
    torch.manual_seed(0)
    return cls(**{"in_channels": 6, "in_height": 2, "in_width": 3, "embedding_dim": 5, **arguments})


def norm(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    return F.batch_norm(x, None, None, training=True, eps=eps)


def test_first_neck_is_bn_flatten_linear_bn():
    module, x = neck().double(), torch.randn(8, 6, 2, 3, dtype=torch.float64)
    y = F.batch_norm(x, None, None, training=True, eps=1e-5).flatten(1)
    expected = F.batch_norm(y @ module.fc.weight.T + module.fc.bias, None, None, training=True, eps=1e-5)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_gdc_is_a_weighted_sum_over_places_bn_linear_bn():
    module, x = neck(GDC).double(), torch.randn(8, 6, 2, 3, dtype=torch.float64)
    conv, linear = module.features.layers[0].layers[0], module.features.layers[2]
    assert conv.weight.shape == (6, 1, 2, 3) and linear.bias is None
    expected = norm(norm((x * conv.weight[:, 0]).sum((2, 3))) @ linear.weight.T)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_fc_bn_fc_bn_reads_the_map_place_by_place():
    module, x = neck(FCBNFCBN).double(), torch.randn(8, 6, 2, 3, dtype=torch.float64)
    first, second = module.feature[0], module.feature[2]
    assert first.weight.shape == (6, 36) and first.bias is None and second.bias is None
    tokens = [x[:, :, row, column] for row in range(2) for column in range(3)]
    expected = norm(norm(torch.cat(tokens, 1) @ first.weight.T, 2e-5) @ second.weight.T, 2e-5)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_weight_of_the_last_norm_stays_at_1():
    module = neck()
    module(torch.randn(4, 6, 2, 3)).square().sum().backward()
    assert not module.features.weight.requires_grad and module.features.weight.grad is None
    assert module.features.weight.tolist() == [1.0] * 5
    assert module.features.bias.requires_grad


def test_dropout_acts_on_elements_of_the_feature_map_in_training_only():
    module, x = neck(dropout=0.4), torch.randn(4, 6, 2, 3)
    seen = []
    module.fc.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    torch.manual_seed(1)
    for _ in range(200):
        module(x)
    dropped = (torch.stack(seen) == 0).double().mean().item()
    assert dropped == pytest.approx(0.4, abs=0.01)
    module.eval()
    module(x)
    assert not bool((seen[-1] == 0).any())


@pytest.mark.parametrize("cls", NECKS)
def test_dropout_of_every_neck_acts_in_training_only(cls):
    module, x = neck(cls, dropout=0.5), torch.randn(64, 6, 2, 3)
    seen = []
    module.dropout.register_forward_hook(lambda _module, inputs, output: seen.append((output == 0).float().mean()))
    module(x)
    module.eval()
    module(x)
    assert seen[0].item() == pytest.approx(0.5, abs=0.06) and seen[1] == 0
    assert module.arguments == {"embedding_dim": 5, "dropout": 0.5}


@pytest.mark.parametrize("cls", NECKS)
def test_embedding_is_fp32_under_autocast_and_fp64_stays_fp64(cls):
    module, x = neck(cls).train(), torch.randn(4, 6, 2, 3)
    seen = []
    linears = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    for linear in linears:
        linear.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0], output)))
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x.bfloat16()).dtype == torch.float32
    assert [layer for layer, _, _ in seen] == linears
    for layer, features, products in seen:
        bias = 0.0 if layer.bias is None else layer.bias.double()
        exact = features.double() @ layer.weight.double().T + bias
        assert (products - exact).abs().max().item() < 1e-5 * exact.abs().max().item()  # in bf16 it would be 1e-3
    assert neck(cls).double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("cls", NECKS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dropout": 1.0}, r"neck\.dropout=1\.0"),
        ({"dropout": -0.1}, r"neck\.dropout=-0\.1"),
        ({"embedding_dim": 0}, r"neck\.embedding_dim=0; expected a positive number"),
    ],
)
def test_arguments_out_of_range_are_refused(cls, wrong, message):
    with pytest.raises(ConfigError, match=message):
        neck(cls, **wrong)
