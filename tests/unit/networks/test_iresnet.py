"""IResNet as InsightFace builds it: sizes, costs, names, and what each block computes."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import count_macs, count_parameters, join
from facerec.networks.iresnet import IResNet, IResNetBlock
from facerec.networks.neck import BNDropoutFCBN


def on_meta(depth: int):
    with torch.device("meta"):
        return join(backbone=IResNet(depth=depth), neck=partial(BNDropoutFCBN), input_spec=InputSpec())


@pytest.mark.parametrize(
    ("depth", "millions", "gmacs"),
    [(18, 24.03, 2.61), (34, 34.14, 4.46), (50, 43.59, 6.31), (100, 65.16, 12.09), (200, 118.83, 23.42)],
)
def test_parameters_and_macs_are_those_of_insightface(depth, millions, gmacs):
    network = on_meta(depth)
    assert round(count_parameters(network) / 1e6, 2) == millions
    assert round(count_macs(network) / 1e9, 2) == gmacs
    assert network.embedding_dim == 512


def test_r50_has_the_475_state_dict_keys_of_insightface():
    shapes = {key: tuple(value.shape) for key, value in on_meta(50).state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    expected |= {f"{bn}.{name}" for bn in ("bn1", "bn2", "features") for name in norm}
    for stage, num_blocks in enumerate((3, 4, 14, 3), start=1):
        for i in range(num_blocks):
            block = f"layer{stage}.{i}"
            expected |= {f"{block}.{name}.weight" for name in ("conv1", "conv2", "prelu")}
            expected |= {f"{block}.{bn}.{name}" for bn in ("bn1", "bn2", "bn3") for name in norm}
        expected |= {f"layer{stage}.0.downsample.0.weight"}
        expected |= {f"layer{stage}.0.downsample.1.{name}" for name in norm}
    assert set(shapes) == expected and len(shapes) == 475
    assert shapes["conv1.weight"] == (64, 3, 3, 3) and shapes["prelu.weight"] == (64,)
    assert shapes["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert shapes["layer2.0.conv1.weight"] == (128, 64, 3, 3)
    assert shapes["layer4.2.conv2.weight"] == (512, 512, 3, 3) and shapes["layer4.0.bn1.weight"] == (256,)
    assert shapes["bn2.weight"] == (512,) and shapes["fc.weight"] == (512, 25088)
    assert shapes["features.running_var"] == (512,)


@pytest.mark.parametrize("project", [True, False])
def test_block_is_bn_conv_bn_prelu_strided_conv_bn_plus_shortcut(project):
    torch.manual_seed(0)
    stride = 2 if project else 1
    block = IResNetBlock(in_channels=16, out_channels=24 if project else 16, stride=stride, project=project).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    x = torch.randn(3, 16, 7, 6, dtype=torch.float64)

    def bn(y, module):
        return F.batch_norm(y, None, None, module.weight, module.bias, training=True, eps=1e-5)

    y = F.conv2d(bn(x, block.bn1), block.conv1.weight, padding=1)
    y = F.prelu(bn(y, block.bn2), block.prelu.weight)
    y = bn(F.conv2d(y, block.conv2.weight, stride=stride, padding=1), block.bn3)
    shortcut = bn(F.conv2d(x, block.downsample[0].weight, stride=2), block.downsample[1]) if project else x
    torch.testing.assert_close(block(x), y + shortcut, rtol=1e-12, atol=1e-12)


def test_convolutions_start_at_a_standard_deviation_of_0_1():
    torch.manual_seed(0)
    backbone = IResNet(depth=18, width_multiplier=0.25)
    weights = torch.cat([m.weight.flatten() for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.1, rel=0.01) and abs(weights.mean().item()) < 1e-3


@pytest.mark.parametrize("size_px", [(112, 112), (32, 32), (97, 50)])
def test_feature_map_has_the_size_that_it_says(size_px):
    backbone = IResNet(depth=18, width_multiplier=0.25).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, *size_px))
    assert features.shape == (1, 128, *backbone.output_size(*size_px)) and backbone.out_channels == 128


@pytest.mark.parametrize(("width", "stem"), [(0.25, 16), (0.5, 32), (0.3, 19)])
def test_width_scales_all_channels(width, stem):
    with torch.device("meta"):
        backbone = IResNet(depth=18, width_multiplier=width)
    assert backbone.conv1.out_channels == stem and backbone.out_channels == round(512 * width)


@pytest.mark.parametrize("width", [0.125, 0.249, 0.0, -1.0, float("nan")])
def test_width_that_crashes_onednn_is_refused(width):
    with pytest.raises(ConfigError, match=re.escape(f"backbone.width_multiplier={width}; expected at least 0.25")):
        IResNet(depth=18, width_multiplier=width)


def test_unknown_depth_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"backbone\.depth=20; IResNet has the depths 18, 34, 50, 100, 200"):
        IResNet(depth=20)


@pytest.mark.parametrize("width", [0.25, 0.3])
def test_gradients_of_narrow_networks_do_not_depend_on_the_memory_layout(width):
    """oneDNN's strided 1x1 convolutions in channels-last memory are wrong below 16 channels."""
    gradients = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        backbone = IResNet(depth=18, width_multiplier=width).to(memory_format=memory_format)
        image = torch.randn(4, 3, 32, 32).contiguous(memory_format=memory_format)
        (backbone(image) * torch.linspace(-1, 1, 4)[:, None, None, None]).sum().backward()
        stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
        gradients.append([stage[0].downsample[0].weight.grad for stage in stages])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
