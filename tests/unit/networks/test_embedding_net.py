"""The embedding network: flat state-dict keys, and a card from which it is built again."""

import json
from functools import partial

import pytest
import torch

from facerec.core.errors import ModelError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import build_network, join
from facerec.networks.iresnet import IResNet
from facerec.networks.neck import BNDropoutFCBN

SPEC = InputSpec(height_px=32, width_px=48, channels="BGR")


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


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": {"name": "os.system", "arguments": {"command": "true"}}},
        {"neck": {"name": "facerec.networks.neck.BNDropoutFCBN", "arguments": {}}},
        {"backbone": {"name": "iresnet", "arguments": {"depth": 18, "colour": 1}}},
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
