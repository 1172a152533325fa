"""Models made of classes from the user's own package: how they are stored, checked, and opened again.

The package is written to a temporary folder for each test.
"""

import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import facerec
from facerec.core.errors import ConfigError, ModelError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import build_network, join
from facerec.networks.neck import BNDropoutFCBN
from facerec.networks.weights import CARD_FILE, load_initial, read_initial
from tests.unit.networks.small_networks import small, write_model

NETS = """
from torch import nn
from facerec.networks.neck import Neck

class Plain(nn.Module):
    def __init__(self, *, width=4, extra=None):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=4)
        self.out_channels, self.arguments, self.extra = width, {"width": width}, extra

    def output_size(self, height_px, width_px):
        return (height_px - 3) // 4 + 1, (width_px - 3) // 4 + 1

    def forward(self, images):
        return self.conv(images)

class Pooled(Neck):
    def add_layers(self, channels, height, width):
        self.fc = nn.Linear(channels, self.embedding_dim)

    def forward(self, features):
        return self.fc(features.mean(dim=(2, 3)))

class Outer:
    class Inner(Plain):
        pass
"""
ATTACKS = """
import functools, os, subprocess
import mylabevil
from subprocess import Popen
from mylabevil import Evil
from mylab.nets import Plain
from torch.nn import Linear

called = []
run = lambda **arguments: called.append(arguments)

class Plain2(Plain):
    pass

class NoModule:
    def __init__(self, **arguments):
        called.append(arguments)

class Instance(Plain):
    def __call__(self, **arguments):
        called.append(arguments)

instance = Instance()
partial = functools.partial(run)

def function(**arguments):
    called.append(arguments)

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    called.append(name)
    return Plain
"""


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """A package mylab beside a package mylabevil, which Python finds, and which were not imported before."""
    folder = tmp_path / "packages"
    for file, content in {"mylab/__init__.py": "", "mylab/nets.py": NETS, "mylab/attacks.py": ATTACKS}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    (folder / "mylabevil.py").write_text("from mylab.nets import Plain\nclass Evil(Plain):\n    pass\n")
    monkeypatch.syspath_prepend(folder)
    forget()
    yield folder
    forget()


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mylab", "mylabevil")]:
        del sys.modules[name]


def imported() -> list[str]:
    return [name for name in sys.modules if name.startswith("mylab")]


def own_network(*, width: int = 4, seed: int = 0):
    from mylab.nets import Plain, Pooled

    torch.manual_seed(seed)
    spec = InputSpec(height_px=32, width_px=32)
    return join(backbone=Plain(width=width), neck=partial(Pooled, embedding_dim=8), input_spec=spec).eval()


def card_of(path: Path, **backbone) -> Path:
    """A stored model of facerec, whose card names another backbone."""
    write_model(path, small())
    card = json.loads((path / CARD_FILE).read_text())
    (path / CARD_FILE).write_text(json.dumps({**card, "backbone": {"arguments": {}, **backbone}}))
    return path


def test_model_of_own_parts_is_stored_by_import_path_and_opened_in_another_process_with_trust(mylab, tmp_path):
    network = own_network(width=5)
    path = write_model(tmp_path / "model", network)
    card = json.loads((path / CARD_FILE).read_text())
    assert card["backbone"] == {"class": "mylab.nets.Plain", "arguments": {"width": 5}}
    assert card["neck"] == {"class": "mylab.nets.Pooled", "arguments": {"embedding_dim": 8, "dropout": 0.0}}
    forget()
    model = facerec.load(str(path), device="cpu", trust="mylab")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(network.input_spec.normalise(torch.from_numpy(pixels))).numpy()
    np.testing.assert_array_equal(model.embed(pixels), expected)
    assert model.input_spec == InputSpec(height_px=32, width_px=32)
    assert model.digest() == facerec.load(str(path), device="cpu", trust=["other", "mylab.nets"]).digest()
    other = write_model(tmp_path / "other", own_network(width=5, seed=1))
    assert model.digest() != facerec.load(str(other), device="cpu", trust="mylab").digest()


def test_without_trust_nothing_is_imported_and_the_message_says_what_would_run_and_what_to_type(mylab, tmp_path):
    path = write_model(tmp_path / "model", own_network())
    forget()
    with pytest.raises(ModelError) as found:
        facerec.load(str(path))
    text = str(found.value)
    assert text.startswith(f"{path}: its backbone is mylab.nets.Plain(width=4) and its neck is mylab.nets.Pooled(")
    assert "would import mylab and run its code" in text and text.count("mylab.nets.Plain") == 1
    assert 'give trust=mylab (in Python: facerec.load(..., trust="mylab"))' in text
    assert imported() == []
    with pytest.raises(ModelError, match=r"trust=other does not name it.* give trust=\[other,mylab\]"):
        facerec.load(str(path), trust="other")
    assert imported() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os.system", "its backbone is os.system"),
        ("torch.load", "its backbone is torch.load"),
        ("subprocess.Popen", "its backbone is subprocess.Popen"),
        ("mylabevil.Evil", "its backbone is mylabevil.Evil"),
        ("system", "its backbone is system"),
        ("", "its backbone is "),
        (".mylab.nets.Plain", "its backbone is "),
    ],
)
def test_trust_covers_no_other_package(mylab, tmp_path, path, reason):
    with pytest.raises(ModelError, match=re.escape(reason)):
        facerec.load(str(card_of(tmp_path / "model", **{"class": path})), trust="mylab")
    assert imported() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("mylab.attacks.Popen", "does not define this class itself, it comes from subprocess.Popen"),
        ("mylab.attacks.Plain", "does not define this class itself, it comes from mylab.nets.Plain"),
        ("mylab.attacks.Evil", "does not define this class itself, it comes from mylabevil.Evil"),
        ("mylab.attacks.Linear", "does not define this class itself, it comes from torch.nn.modules.linear.Linear"),
        ("mylab.attacks.os.system", "does not find the module 'mylab.attacks.os'"),
        ("mylab.os.system", "does not find the module 'mylab.os'"),
        ("mylab.attacks.run", "has an object of the type function under this name"),
        ("mylab.attacks.function", "has an object of the type function under this name"),
        ("mylab.attacks.instance", "has an object of the type Instance under this name"),
        ("mylab.attacks.partial", "has an object of the type partial under this name"),
        ("mylab.attacks.os", "has an object of the type module under this name"),
        ("mylab.attacks.NoModule", "does not derive from torch.nn.Module"),
        ("mylab.attacks.absent", "has nothing of this name"),
        ("mylab.attacks.Instance.__call__", "does not find the module 'mylab.attacks.Instance'"),
        ("mylab.nets.Outer.Inner", "does not find the module 'mylab.nets.Outer'"),
        ("mylab..nets.Plain", "is not the import path of a class"),
        ("mylab.nets.Plain()", "is not the import path of a class"),
        ("mylab.absent.Plain", "does not find the module 'mylab.absent': install the package"),
    ],
)
def test_only_a_network_class_that_the_trusted_package_defines_is_built(mylab, tmp_path, path, reason):
    with pytest.raises(ModelError, match=re.escape(reason)):
        facerec.load(str(card_of(tmp_path / "model", **{"class": path})), trust="mylab")
    attacks = sys.modules.get("mylab.attacks")
    assert attacks is None or attacks.called == []


def test_trusting_a_subpackage_does_not_trust_its_parent(mylab, tmp_path):
    with pytest.raises(ModelError, match=r"trust=mylab\.nets does not name it"):
        facerec.load(str(card_of(tmp_path / "model", **{"class": "mylab.attacks.Plain2"})), trust="mylab.nets")
    assert imported() == []


@pytest.mark.parametrize("arguments", [["width"], {"depth": 3}, "width=4", None])
def test_arguments_that_the_class_does_not_take_are_refused(mylab, tmp_path, arguments):
    path = card_of(tmp_path / "model", **{"class": "mylab.nets.Plain", "arguments": arguments})
    with pytest.raises(ModelError, match="does not describe a network"):
        facerec.load(str(path), trust="mylab")


def test_nested_target_in_the_arguments_stays_a_plain_value(mylab, tmp_path):
    extra = {"_target_": "os.system", "command": "true"}
    path = card_of(tmp_path / "model", **{"class": "mylab.nets.Plain", "arguments": {"extra": extra}})
    card = json.loads((path / CARD_FILE).read_text())
    assert build_network(card, trust="mylab").backbone.extra == extra


def test_start_from_own_parts_needs_trust_too(mylab, tmp_path):
    path = str(write_model(tmp_path / "model", own_network()))
    target = own_network(seed=3)
    with pytest.raises(ModelError, match="give trust=mylab"):
        load_initial(target, read_initial(path, target))
    report = load_initial(target, read_initial(path, target, trust="mylab"))
    assert "4 of 4 tensors taken" in report
    assert torch.equal(target.backbone.conv.weight, own_network().backbone.conv.weight)
    with pytest.raises(ModelError, match=r"mylab.nets.Plain \(width=4\) in the file, iresnet .* in this run"):
        load_initial(small(), read_initial(path, small(), trust="mylab"))


def joined(backbone, neck=BNDropoutFCBN):
    return join(backbone=backbone, neck=partial(neck, embedding_dim=8), input_spec=InputSpec(height_px=32, width_px=32))


def test_everything_that_a_backbone_lacks_is_in_one_message(mylab):
    from torch import nn

    class Empty(nn.Module):
        def output_size(self, height_px):
            return height_px, height_px

    with pytest.raises(ConfigError) as found:
        joined(Empty())
    assert str(found.value) == (
        "backbone: tests.unit.networks.test_own_parts.test_everything_that_a_backbone_lacks_is_in_one_message."
        "<locals>.Empty cannot serve as a backbone: it has no out_channels, no arguments and no forward(images); "
        "output_size(height_px) cannot be called as output_size(height_px, width_px). docs/extending.md#backbone "
        "describes what a backbone needs"
    )
    with pytest.raises(ConfigError, match=r"it does not derive from torch.nn.modules.module.Module; it has no out_"):
        joined(object())


def test_backbone_that_gives_another_map_than_it_promises_is_refused(mylab):
    from mylab.nets import Plain

    backbone = Plain()
    backbone.out_channels = 5
    with pytest.raises(
        ConfigError, match=r"forward maps \(2, 3, 32, 32\) to \(2, 4, 8, 8\); .* promise \(2, 5, 8, 8\)"
    ):
        joined(backbone)
    backbone = Plain()
    backbone.conv = torch.nn.Conv2d(1, 4, 3)
    with pytest.raises(ConfigError, match=r"cannot serve as a backbone: .*forward fails on an input of shape \(2, 3"):
        joined(backbone)


def test_backbone_whose_arguments_make_another_network_is_refused(mylab):
    from mylab.nets import Outer, Plain

    backbone = Plain(width=6)
    backbone.arguments = {}
    with pytest.raises(ConfigError, match=r"has other weights: conv.weight is \(4, 3, 3, 3\), here \(6, 3, 3, 3\)"):
        joined(backbone)
    backbone.arguments = {"depth": 6}
    with pytest.raises(ConfigError, match=r"cannot be made again from its arguments \{'depth': 6\} \(TypeError"):
        joined(backbone)
    backbone.arguments = {"width": np.int64(6)}
    with pytest.raises(ConfigError, match="expected plain values only"):
        joined(backbone)
    with pytest.raises(ConfigError, match="move it to the top level of a module"):
        joined(Outer.Inner())


def test_backbone_that_needs_values_runs_on_zeros_and_leaves_the_random_numbers_alone(mylab):
    (mylab / "mylab" / "valued.py").write_text(
        NETS + "\nimport torch\nclass Valued(Plain):\n    def forward(self, images):\n"
        "        return self.conv(images) * (1 + images.abs().max().item()) + torch.rand(1)\n"
    )
    from mylab.valued import Valued

    torch.manual_seed(5)
    expected = torch.rand(1)
    backbone = Valued()
    torch.manual_seed(5)
    network = joined(backbone)
    first = network.neck.fc.weight.flatten()[0].item()
    torch.manual_seed(5)
    assert torch.nn.Linear(4 * 8 * 8, 8).weight.flatten()[0].item() == first and torch.rand(1) != expected


def test_neck_is_checked_as_a_backbone_is(mylab):
    from mylab.nets import Pooled

    class NoNeck(torch.nn.Module):
        def __init__(self, **shape):
            super().__init__()

    with pytest.raises(ConfigError, match=r"neck: .*NoNeck cannot serve as a neck: it has no embedding_dim, no argum"):
        joined(small().backbone, NoNeck)

    class Flat(Pooled):
        def forward(self, features):
            return features.flatten(1)

    with pytest.raises(ConfigError, match=r"forward maps .* embedding_dim promise \(2, 8\)"):
        joined(small().backbone, Flat)


def test_subclass_of_a_registered_backbone_is_stored_as_its_own_class(mylab):
    (mylab / "mylab" / "wider.py").write_text(
        "from facerec.networks.iresnet import IResNet\nclass Wider(IResNet):\n    pass\n"
    )
    from mylab.wider import Wider

    card = joined(Wider(depth=18, width_multiplier=0.25)).card()
    assert card["backbone"] == {"class": "mylab.wider.Wider", "arguments": {"depth": 18, "width_multiplier": 0.25}}
