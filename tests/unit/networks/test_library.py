"""Networks of torchvision and timm as backbones: the feature map that their classification layers would read."""

import sys
import types
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import models

from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import build_network, count_macs, count_parameters, join
from facerec.networks.library import HEADS, ROWS, VIT, TimmBackbone, TorchvisionBackbone
from facerec.networks.neck import BNDropoutFCBN

# The network of each file of torchvision.models that is built fastest.
SMALLEST = {
    "alexnet": "alexnet", "convnext": "convnext_tiny", "densenet": "densenet121", "efficientnet": "efficientnet_b0",
    "googlenet": "googlenet", "inception": "inception_v3", "maxvit": "maxvit_t", "mnasnet": "mnasnet0_5",
    "mobilenetv2": "mobilenet_v2", "mobilenetv3": "mobilenet_v3_small", "regnet": "regnet_x_400mf",
    "resnet": "resnet18", "shufflenetv2": "shufflenet_v2_x0_5", "squeezenet": "squeezenet1_1",
    "swin_transformer": "swin_t", "vgg": "vgg11",
}  # fmt: skip
QUICK = ("alexnet", "densenet", "mobilenetv3", "resnet", "shufflenetv2", "squeezenet", "swin_transformer", "vgg")


def on_meta(model: str, size_px: int = 112, **arguments) -> TorchvisionBackbone:
    with torch.device("meta"):
        return TorchvisionBackbone(model=model, height_px=size_px, width_px=size_px, **arguments)


def whole(model: str, **arguments) -> nn.Module:
    """torchvision's own network without its numbers."""
    return models.get_model(model, weights=None, **arguments).to("meta")


class Recorder(TorchDispatchMode):
    """Which operators run, and the shape of what each gives."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) else result
        self.seen.append((str(func).replace("_.", "."), tuple(first.shape)))  # relu_ is relu
        return result


def operators(module: nn.Module, size_px: int) -> list[tuple[str, tuple[int, ...]]]:
    with torch.no_grad(), Recorder() as recorder:
        module.eval()(torch.empty(1, 3, size_px, size_px, device="meta"))
    return recorder.seen[1:]  # without the image


def test_every_kind_of_network_that_torchvision_classifies_with_is_known():
    files = {models.get_model_builder(name).__module__.rpartition(".")[2] for name in models.list_models(module=models)}
    assert files == {*ROWS, VIT} and set(SMALLEST) == set(ROWS)


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in ROWS]
)
def test_backbone_computes_what_torchvisions_network_computes_up_to_its_head(family):
    """Every operator, in order, with its shapes; after them the whole network only pools and classifies."""
    model, size_px = SMALLEST[family], 224 if family == "maxvit" else 112
    extra = {"input_size": (224, 224)} if family == "maxvit" else {}
    if family in ("googlenet", "inception"):
        extra = {"init_weights": False}
    backbone = on_meta(model, size_px)
    with torch.device("meta") if family != "regnet" else torch.device("cpu"):
        theirs = whole(model, **extra)
    ours, all_of_theirs = operators(backbone, size_px), operators(theirs, size_px)
    assert ours == all_of_theirs[: len(ours)]
    assert ours[-1][1] == (1, backbone.out_channels, *backbone.output_size(size_px, size_px))
    rest = [name for name, _ in all_of_theirs[len(ours) :]]
    assert len(rest) <= 25
    assert sum("convolution" in name for name in rest) == (family == "squeezenet")
    shapes = {key: value.shape for key, value in theirs.state_dict().items() if key.split(".")[0] not in HEADS}
    assert {key: value.shape for key, value in backbone.state_dict().items()} == {
        f"model.{key}": shape for key, shape in shapes.items()
    }


@pytest.mark.parametrize(
    ("model", "weights", "head"),
    [
        ("resnet18", models.ResNet18_Weights, [(512, 1000)]),
        ("mobilenet_v3_large", models.MobileNet_V3_Large_Weights, [(960, 1280), (1280, 1000)]),
        ("efficientnet_b0", models.EfficientNet_B0_Weights, [(1280, 1000)]),
        ("convnext_tiny", models.ConvNeXt_Tiny_Weights, [(768, 1000)]),
        ("vit_b_16", models.ViT_B_16_Weights, [(768, 1000)]),
    ],
)
def test_parameters_and_macs_are_what_torchvision_publishes_less_the_head(model, weights, head):
    """And every parameter reaches the feature map."""
    with torch.device("meta"):
        backbone = TorchvisionBackbone(model=model, height_px=224, width_px=224)
        spec = InputSpec(height_px=224, width_px=224)
        network = join(backbone=backbone, neck=partial(BNDropoutFCBN, embedding_dim=1), input_spec=spec)
    published = weights.IMAGENET1K_V1.meta
    head_parameters = sum(rows * columns + columns for rows, columns in head)
    if model == "convnext_tiny":
        head_parameters += 2 * 768  # the norm between pooling and classification
    assert count_parameters(backbone) == published["num_params"] - head_parameters
    neck_macs = network.neck.fc.in_features
    macs = count_macs(network) - neck_macs + sum(rows * columns for rows, columns in head)
    assert macs / 1e9 == pytest.approx(published["_ops"], rel=2e-3)
    features = backbone.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    names, parameters = zip(*backbone.named_parameters(), strict=True)
    gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []


def test_tokens_of_torchvisions_transformer_are_those_its_encoder_gives_without_the_class():
    torch.manual_seed(0)
    backbone = TorchvisionBackbone(model="vit_b_32", height_px=64, width_px=64).eval()
    with torch.device("meta"):
        theirs = models.vit_b_32(weights=None, image_size=64).eval()
    seen = []
    theirs.encoder.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    image = torch.randn(2, 3, 64, 64)
    state = {key.removeprefix("model."): value for key, value in backbone.state_dict().items()}
    state |= {"heads.head.weight": torch.zeros(1000, 768), "heads.head.bias": torch.zeros(1000)}
    with torch.no_grad():
        torch.func.functional_call(theirs, state, (image,))
        tokens = backbone(image)
    assert tokens.shape == (2, 768, 2, 2) and backbone.output_size(64, 64) == (2, 2)
    torch.testing.assert_close(tokens.flatten(2).mT, seen[0][:, 1:], rtol=1e-4, atol=1e-5)


def test_sizes_computed_with_tensors_are_counted_without_touching_the_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert on_meta("regnet_x_400mf").output_size(112, 112) == (4, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_arguments_of_the_builder_arrive():
    backbone = on_meta("convnext_tiny", model_arguments={"stochastic_depth_prob": 0.3})
    rates = [m.p for m in backbone.modules() if type(m).__name__ == "StochasticDepth"]
    assert max(rates) == pytest.approx(0.3)
    assert backbone.arguments == {
        "model": "convnext_tiny", "model_arguments": {"stochastic_depth_prob": 0.3}, "height_px": 112, "width_px": 112,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "resnet81"}, r"backbone\.model=resnet81: no backbone has this name; did you mean resnet18"),
        ({"model": "fcn_resnet50"}, r"did you mean .*resnet50"),
        ({"model": "zzz"}, r"there are \d+, see torchvision\.models\.list_models"),
        ({"model": "resnet18", "model_arguments": {"colour": 1}}, r"cannot build it .*colour"),
        ({"model": "resnet18", "model_arguments": {"weights": "DEFAULT"}}, r"model_arguments\.weights: leave it out"),
        ({"model": "resnet18", "model_arguments": {"pretrained": True}}, r"model_arguments\.pretrained: leave it out"),
        ({"model": "resnet18", "model_arguments": {"num_classes": 5}}, r"model_arguments\.num_classes"),
        ({"model": "vgg11", "model_arguments": {"dropout": 0.1}}, r"dropout: in vgg11 .* use neck\.dropout"),
        ({"model": "vgg11", "checkpoint_activations": True}, r"checkpoint_activations=true: vgg11 has no blocks"),
        ({"model": "vit_b_16", "height_px": 96}, r"square images only, not 96 x 112 .*input\.height_px=96"),
        (
            {"model": "vit_b_16", "height_px": 100, "width_px": 100},
            r"cannot build it for 100 x 100 pixels \(input\.height_px=100",
        ),
        ({"model": "inception_v3", "height_px": 32, "width_px": 32}, r"does not take 32 x 32 .*choose another size"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_mend(arguments, message):
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        TorchvisionBackbone(**arguments)


def test_another_size_than_a_transformers_is_refused_with_the_mend():
    backbone = on_meta("vit_b_16", 64)
    with pytest.raises(
        ConfigError, match=r"made for 64 x 64 pixels, does not take 112 x 112 .*set backbone\.height_px"
    ):
        backbone.output_size(112, 112)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_card_from_a_file_fetches_and_opens_no_weights(name):
    for key in ("weights", "pretrained", "pretrained_cfg", "checkpoint_path"):
        arguments = {"model": "resnet18", "model_arguments": {key: "x"}, "height_px": 112, "width_px": 112}
        card = {
            "backbone": {"name": name, "arguments": arguments},
            "neck": {"name": "bn_dropout_fc_bn", "arguments": {}},
            "input_spec": {},
        }
        with pytest.raises(ConfigError, match=rf"model_arguments\.{key}: leave it out"):
            build_network(card)


def test_timm_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"backbone\.model=resnet18 needs timm.*pip install 'facerec\[timm\]'"):
        TimmBackbone(model="resnet18")


class Tokens(nn.Module):
    """As a network of timm: one class token in front of those of 4 x 4 pixels, and a head that nothing reads."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 6, 4, stride=4)
        self.head = nn.Linear(6, 6)
        self.spare = nn.Parameter(torch.zeros(3))
        self.norm = nn.LayerNorm(6)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.proj(x).flatten(2).mT)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)

    def set_grad_checkpointing(self, enable: bool) -> None:
        self.checkpoints = enable


class ChannelsLast(nn.Module):
    """As a network of timm that gives (B, h, w, C), with batch normalisation."""

    output_fmt = "NHWC"

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).permute(0, 2, 3, 1)


class Maps(ChannelsLast):
    """As a network of timm that gives several maps."""

    def forward_features(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        return [self.layers(x)]


@pytest.fixture
def small_timm(monkeypatch):
    """A module in timm's place with three networks; notes what it is asked for."""
    networks = {"tokens": Tokens, "channels_last": ChannelsLast, "list": Maps}
    asked = []

    def create_model(model_name, **arguments):
        asked.append(arguments)
        return networks[model_name]()

    module = types.ModuleType("timm")
    module.list_models = lambda: list(networks)
    module.get_pretrained_cfg = lambda name: types.SimpleNamespace(fixed_input_size=name == "tokens")
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


def test_tokens_of_timm_become_a_map_and_what_it_does_not_need_is_taken_off(small_timm):
    backbone = TimmBackbone(
        model="tokens", height_px=16, width_px=24, model_arguments={"drop_path_rate": 0.1}, checkpoint_activations=True
    )
    assert small_timm == [{"pretrained": False, "num_classes": 0, "img_size": (16, 24), "drop_path_rate": 0.1}]
    image = torch.randn(2, 3, 16, 24)
    expected = backbone.model.norm(backbone.model.proj(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone(image), expected)
    assert backbone.out_channels == 6 and backbone.output_size(16, 24) == (4, 6)
    assert {key for key, p in backbone.named_parameters() if p.requires_grad} == {
        "model.proj.weight", "model.proj.bias", "model.norm.weight", "model.norm.bias",
    }  # fmt: skip
    assert isinstance(backbone.model.head, nn.Identity) and backbone.model.checkpoints


def test_maps_of_timm_in_channels_last_order_are_turned(small_timm):
    backbone = TimmBackbone(model="channels_last", height_px=16, width_px=24)
    assert small_timm == [{"pretrained": False, "num_classes": 0}]
    image = torch.randn(2, 3, 16, 24)
    torch.testing.assert_close(backbone(image), backbone.model.layers(image))
    assert backbone.output_size(16, 24) == (4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "token"}, r"did you mean tokens\?"),
        ({"model": "hf-hub:someone/tokens"}, r"no backbone has this name"),
        ({"model": "channels_last", "checkpoint_activations": True}, r"checkpoint_activations=true .* update twice"),
        ({"model": "tokens", "model_arguments": {"model_name": "hf-hub:someone/tokens"}}, r"cannot build .*model_name"),
        ({"model": "list", "height_px": 32, "width_px": 32}, r"backbone\.model=list returns list, not a map or tokens"),
        ({"model": "tokens", "model_arguments": {"drop_rate": 0.1}}, r"drop_rate: .* neck\.dropout"),
    ],
)
def test_what_timm_cannot_give_is_refused_with_the_mend(small_timm, arguments, message):
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(**arguments)


@pytest.mark.parametrize(
    ("model", "size_px", "channels", "grid", "checkpoints"),
    [
        ("resnet18", 112, 512, (4, 4), False),
        ("mobilenetv3_small_050", 112, 288, (4, 4), False),
        ("convnext_atto", 112, 320, (3, 3), True),
        ("vit_tiny_patch16_224", 112, 192, (7, 7), True),
        ("swin_tiny_patch4_window7_224", 112, 768, (4, 4), True),
    ],
)
def test_networks_of_timm_itself(model, size_px, channels, grid, checkpoints):
    pytest.importorskip("timm", reason="the extra facerec[timm] is not installed")
    build = partial(TimmBackbone, model=model, height_px=size_px, width_px=size_px)
    torch.manual_seed(0)
    backbone = build()
    assert (backbone.out_channels, backbone.output_size(size_px, size_px)) == (channels, grid)
    network = join(backbone=backbone, neck=partial(BNDropoutFCBN, embedding_dim=8), input_spec=InputSpec())
    again = build_network(network.card())
    again.load_state_dict(network.state_dict())
    image = torch.randn(2, 3, size_px, size_px)
    assert torch.equal(network.eval()(image), again.eval()(image)) and count_macs(network) > 1e6
    network.train()(image)[:, 0].sum().backward()
    assert [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    if checkpoints:
        build(checkpoint_activations=True)
    else:
        with pytest.raises(ConfigError, match="update twice"):
            build(checkpoint_activations=True)
