"""The BN-Dropout-FC-BN neck."""

import pytest
import torch
import torch.nn.functional as F

from facerec.core.errors import ConfigError
from facerec.networks.neck import BNDropoutFCBN


def neck(**arguments) -> BNDropoutFCBN:
    torch.manual_seed(0)
    return BNDropoutFCBN(in_channels=6, in_height=2, in_width=3, embedding_dim=5, **arguments)


def test_neck_is_bn_flatten_linear_bn():
    module, x = neck().double(), torch.randn(8, 6, 2, 3, dtype=torch.float64)
    y = F.batch_norm(x, None, None, training=True, eps=1e-5).flatten(1)
    expected = F.batch_norm(y @ module.fc.weight.T + module.fc.bias, None, None, training=True, eps=1e-5)
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


def test_embedding_is_fp32_under_autocast_and_fp64_stays_fp64():
    module, x = neck(), torch.randn(4, 6, 2, 3)
    seen = []
    module.fc.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0], output)))
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x.bfloat16()).dtype == torch.float32
    ((features, products),) = seen
    exact = features.double() @ module.fc.weight.double().T + module.fc.bias.double()
    assert (products - exact).abs().max().item() < 1e-6  # in bf16 it would be 1e-3
    assert neck().double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("wrong", [{"dropout": 1.0}, {"dropout": -0.1}])
def test_dropout_outside_0_to_1_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"neck\.dropout"):
        neck(**wrong)
