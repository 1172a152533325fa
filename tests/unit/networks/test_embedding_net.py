"""The embedding network: flat state-dict keys, and a card from which it is built again."""

import json
from functools import partial

import pytest
import torch

from facerec.core.errors import ModelError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import BACKBONES, NECKS, build_network, count_macs, join
from facerec.networks.iresnet import IResNet
from facerec.networks.neck import BNDropoutFCBN

SPEC = InputSpec(height_px=32, width_px=48, channels="BGR")
SIZE = {"height_px": 32, "width_px": 48}

# The smallest of each registered backbone; timm's, which may not be installed, is in test_library.
SMALLEST = {
    "iresnet": {"depth": 18, "width_multiplier": 0.25},
    "mobilefacenet": {},
    "vit": {
        "token_dim": 16,
        "depth": 2,
        "num_heads": 4,
        "patch_size_px": 8,
        "drop_path": 0.0,
        "mask_ratio": 0.2,
        **SIZE,
    },
    "torchvision": {"model": "resnet18", "model_arguments": {}, **SIZE},
}


def small(**neck):
    torch.manual_seed(0)
    return join(
        backbone=IResNet(depth=18, width_multiplier=0.25),
        neck=partial(BNDropoutFCBN, embedding_dim=8, **neck),
        input_spec=SPEC,
    )


def test_state_dict_keys_have_no_part_names_and_load_back():
    network, other = small(), small()
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(7)
    state = network.state_dict()
    assert not [key for key in state if key.startswith(("backbone", "neck"))]
    assert other.load_state_dict(state).missing_keys == []
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_flat_keys_work_inside_another_module():
    wrapped = torch.nn.Sequential(small())
    state = wrapped.state_dict()
    assert "0.conv1.weight" in state and "0.fc.weight" in state
    wrapped.load_state_dict(state)


def test_loading_says_which_keys_are_missing_or_unknown():
    network = small()
    state = network.state_dict()
    state["odd"] = state.pop("fc.weight")
    with pytest.raises(RuntimeError, match=r"neck\.fc\.weight[\s\S]*odd"):
        network.load_state_dict(state)


def test_card_is_plain_json_and_builds_the_same_network():
    network = small(dropout=0.25)
    again = build_network(json.loads(json.dumps(network.card())))
    again.load_state_dict(network.state_dict())
    image = torch.randn(2, 3, 32, 48)
    assert torch.equal(network.eval()(image), again.eval()(image))
    assert again.card() == network.card() and again.input_spec == SPEC and again.neck.dropout.p == 0.25
    assert again.neck.fc.in_features == 128 * 2 * 3


def test_every_registered_backbone_is_tried_here():
    assert set(SMALLEST) | {"timm"} == set(BACKBONES)


def every_pair():
    return pytest.mark.parametrize(("backbone", "neck"), [(b, n) for b in SMALLEST for n in NECKS])


def pair(backbone: str, neck: str):
    torch.manual_seed(0)
    return join(
        backbone=BACKBONES[backbone](**SMALLEST[backbone]),
        neck=partial(NECKS[neck], embedding_dim=8),
        input_spec=SPEC,
    )


@every_pair()
def test_every_backbone_goes_with_every_neck(backbone, neck):
    """Keys of the two parts do not meet, a card builds the network again, MACs are counted, gradients reach all."""
    network = pair(backbone, neck)
    state = network.state_dict()
    assert len(state) == len(network.backbone.state_dict()) + len(network.neck.state_dict())
    card = json.loads(json.dumps(network.card()))
    assert card["backbone"] == {"name": backbone, "arguments": SMALLEST[backbone]} and card["neck"]["name"] == neck
    again = build_network(card)
    assert not torch.equal(again.neck.state_dict()[key := first_matrix(again.neck)], network.neck.state_dict()[key])
    again.load_state_dict(state)
    image = torch.randn(4, 3, 32, 48)
    assert torch.equal(network.eval()(image), again.eval()(image))
    assert count_macs(network) > 1e5
    weights = torch.linspace(-1, 1, 32).view(4, 8)
    (network.train()(image) * weights).sum().backward()
    untouched = [
        key
        for key, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert untouched == []


def first_matrix(module: torch.nn.Module) -> str:
    return next(key for key, value in module.state_dict().items() if value.ndim > 1)


@pytest.mark.parametrize("backbone", SMALLEST)
def test_fp64_stays_fp64_and_autocast_ends_in_fp32(backbone):
    network, image = pair(backbone, "bn_dropout_fc_bn").eval(), torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        plain = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(image)
        exact = network.double()(image.double())
    assert (plain.dtype, low.dtype, exact.dtype) == (torch.float32, torch.float32, torch.float64)
    assert 0 < (plain - exact).abs().max() < 1e-4 * exact.abs().max()
    assert (low - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": {"name": "os.system", "arguments": {"command": "true"}}},
        {"neck": {"name": "facerec.networks.neck.BNDropoutFCBN", "arguments": {}}},
        {"backbone": {"name": "iresnet", "arguments": {"depth": 18, "colour": 1}}},
        {"backbone": {"name": "mobilefacenet", "arguments": {"depth": 18}}},
        {"backbone": {"name": "torchvision", "arguments": {"model": "resnet18", "weights": "DEFAULT"}}},
        {"input_spec": {"heigth_px": 112}},
    ],
)
def test_card_that_names_what_is_not_registered_is_refused(change):
    with pytest.raises(ModelError):
        build_network({**small().card(), **change})
    card = small().card()
    del card["neck"]
    with pytest.raises(ModelError, match="neck"):
        build_network(card)
