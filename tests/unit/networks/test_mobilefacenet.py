"""MobileFaceNet as InsightFace's arcface_torch builds it (mbf): sizes, names, and what it computes."""

from functools import partial

import pytest
import torch
from torch import nn

from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import count_macs, count_parameters, join
from facerec.networks.mobilefacenet import Bottleneck, MobileFaceNet
from facerec.networks.neck import GDC
from tests.unit.networks.seeded_weights import seeded_images, seeded_state


def mbf(**neck):
    return join(backbone=MobileFaceNet(), neck=partial(GDC, **neck), input_spec=InputSpec())


def on_meta():
    with torch.device("meta"):
        return mbf()


def test_parameters_and_macs_are_those_of_insightface():
    """Its 0.45G also count two operations for each number that BN puts out and one for each of PReLU (ptflops)."""
    network = on_meta().eval()
    assert count_parameters(network) == 2_059_520
    macs = count_macs(network)
    assert macs == 437_520_896
    outputs = {nn.BatchNorm1d: 0, nn.BatchNorm2d: 0, nn.PReLU: 0}

    def count(module, _inputs, output):
        kind = next((kind for kind in outputs if isinstance(module, kind)), None)
        if kind:
            outputs[kind] += output.numel()

    for module in network.modules():
        module.register_forward_hook(count)
    network(torch.empty(1, 3, 112, 112, device="meta"))
    norms = outputs[nn.BatchNorm1d] + outputs[nn.BatchNorm2d]
    assert round((macs + 2 * norms + outputs[nn.PReLU]) / 1e9, 2) == 0.45


def test_state_dict_has_the_333_keys_of_insightface():
    shapes = {key: tuple(value.shape) for key, value in on_meta().state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def unit(prefix, *, activation=True):
        yield f"{prefix}.layers.0.weight"
        yield from (f"{prefix}.layers.1.{name}" for name in norm)
        if activation:
            yield f"{prefix}.layers.2.weight"

    def bottleneck(prefix):
        for i in range(3):
            yield from unit(f"{prefix}.layers.{i}", activation=i < 2)

    expected = {*unit("layers.0"), *unit("layers.1"), *unit("conv_sep")}
    for halving, following, num_blocks in ((2, 3, 4), (4, 5, 6), (6, 7, 2)):
        expected |= {*bottleneck(f"layers.{halving}")}
        expected |= {key for i in range(num_blocks) for key in bottleneck(f"layers.{following}.layers.{i}")}
    expected |= {*unit("features.layers.0", activation=False), "features.layers.2.weight"}
    expected |= {f"features.layers.3.{name}" for name in norm}
    assert set(shapes) == expected and len(shapes) == 333
    assert shapes["layers.0.layers.0.weight"] == (128, 3, 3, 3)
    assert shapes["layers.1.layers.0.weight"] == (128, 2, 3, 3)
    assert shapes["layers.2.layers.0.layers.0.weight"] == (128, 128, 1, 1)
    assert shapes["layers.3.layers.3.layers.1.layers.0.weight"] == (128, 1, 3, 3)
    assert shapes["layers.4.layers.2.layers.0.weight"] == (256, 256, 1, 1)
    assert shapes["layers.5.layers.5.layers.1.layers.2.weight"] == (256,)
    assert shapes["layers.6.layers.1.layers.0.weight"] == (512, 1, 3, 3)
    assert shapes["layers.7.layers.1.layers.2.layers.1.running_var"] == (256,)
    assert shapes["conv_sep.layers.0.weight"] == (512, 256, 1, 1)
    assert shapes["features.layers.0.layers.0.weight"] == (512, 1, 7, 7)
    assert shapes["features.layers.2.weight"] == (512, 512) and shapes["features.layers.3.bias"] == (512,)


def test_embedding_is_the_one_that_arcface_torch_computes_from_the_same_weights():
    """The figures come from its own mbf (insightface at 7fadd420), with this state and these images in float64."""
    network = mbf().double().eval()
    network.load_state_dict(seeded_state(network.state_dict()))
    with torch.no_grad():
        emb_BD = network(seeded_images(2))
    assert emb_BD.shape == (2, 512) and emb_BD.dtype == torch.float64
    assert emb_BD[0, :3].tolist() == pytest.approx([122.19540200358, 175.013083553833, 58.616777218579], rel=1e-9)
    assert emb_BD[1, -2:].tolist() == pytest.approx([-81.769387892965, 98.910588513936], rel=1e-9)


def test_block_of_stride_1_adds_its_input():
    torch.manual_seed(0)
    block = Bottleneck(in_channels=16, inner_channels=32, out_channels=16, stride=1).double()
    x = torch.randn(3, 16, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), block.layers(x) + x)
    halving = Bottleneck(in_channels=16, inner_channels=32, out_channels=24, stride=2).double()
    assert halving(x).shape == (3, 24, 3, 2)


def test_convolutions_start_as_kaiming_normal_over_what_goes_out():
    torch.manual_seed(0)
    state = mbf().state_dict()
    for key, fan_out in {
        "layers.0.layers.0.weight": 128 * 9,
        "conv_sep.layers.0.weight": 512,
        "features.layers.0.layers.0.weight": 512 * 49,
        "features.layers.2.weight": 512,
    }.items():
        assert state[key].std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize("size_px", [(112, 112), (32, 32), (97, 50)])
def test_feature_map_has_the_size_that_it_says(size_px):
    backbone = MobileFaceNet().eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, *size_px))
    assert features.shape == (1, 512, *backbone.output_size(*size_px)) and backbone.out_channels == 512
