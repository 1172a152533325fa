"""The embedding network: a backbone and a neck as one module, also built from its stored card."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facerec.core.errors import ModelError
from facerec.core.input_spec import InputSpec
from facerec.networks.iresnet import IResNet
from facerec.networks.library import TimmBackbone, TorchvisionBackbone
from facerec.networks.mobilefacenet import MobileFaceNet
from facerec.networks.neck import FCBNFCBN, GDC, BNDropoutFCBN
from facerec.networks.own_parts import Trust, check_backbone, check_neck, check_trust, own_entry, trusted_class
from facerec.networks.trial_run import trial_run
from facerec.networks.vit import VisionTransformer

# The only names that model.json may contain. Besides these, a file may name classes of packages that the user trusts.
BACKBONES = {part.name: part for part in (IResNet, MobileFaceNet, VisionTransformer, TorchvisionBackbone, TimmBackbone)}
NECKS = {part.name: part for part in (BNDropoutFCBN, GDC, FCBNFCBN)}
PARTS = ("backbone.", "neck.")


class EmbeddingNet(nn.Module):
    """Backbone and neck: normalised float (B, 3, H, W) -> float32 (B, embedding_dim).

    The keys of the state dict have no prefix "backbone." or "neck.": for IResNet, MobileFaceNet (with the neck gdc) and
    the vision transformer (fc_bn_fc_bn) they are the keys of InsightFace's arcface_torch, in both directions.

    Args:
        backbone: maps images to a feature map (B, C, h, w).
        neck: maps the feature map to the embedding.
        input_spec: the preprocessing with which the network is trained.
    """

    def __init__(self, *, backbone: nn.Module, neck: nn.Module, input_spec: InputSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.input_spec = input_spec
        self.register_state_dict_post_hook(_drop_part_names)
        self.register_load_state_dict_pre_hook(_add_part_names)

    @property
    def embedding_dim(self) -> int:
        """Returns the length of the embedding."""
        return self.neck.embedding_dim  # type: ignore[return-value]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.neck(self.backbone(images))

    def card(self) -> dict[str, Any]:
        """Returns the names and plain arguments with which `build_network` builds the same network again."""
        return {
            "backbone": _entry(self.backbone, BACKBONES),
            "neck": _entry(self.neck, NECKS),
            "input_spec": self.input_spec.to_json(),
        }


def _entry(part: Any, registered: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a part's entry in the card: a registered name, or the import path of a class of the user's package."""
    if registered.get(getattr(part, "name", "")) is type(part):
        return {"name": part.name, "arguments": part.arguments}
    return own_entry(part)


def _drop_part_names(net: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]) -> None:
    for key in [key for key in state if key.startswith(tuple(prefix + part for part in PARTS))]:
        part = next(part for part in PARTS if key.startswith(prefix + part))
        state[prefix + key.removeprefix(prefix + part)] = state.pop(key)


def _add_part_names(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, _tensor in [*net.named_parameters(), *net.named_buffers()]:
        part = next((part for part in PARTS if name.startswith(part)), "")
        flat = prefix + name.removeprefix(part)
        if part and flat in state:
            state[prefix + name] = state.pop(flat)


def join(*, backbone: Any, neck: Callable[..., nn.Module], input_spec: InputSpec) -> EmbeddingNet:
    """Joins a backbone and the neck that `neck(in_channels=, in_height=, in_width=)` builds for its feature map.

    Raises:
        ConfigError: a part of the user's own class lacks something of `Backbone` or `NeckPart`.
    """
    if type(backbone) not in BACKBONES.values():
        check_backbone(backbone, height_px=input_spec.height_px, width_px=input_spec.width_px)
    rows, columns = backbone.output_size(input_spec.height_px, input_spec.width_px)
    shape = {"in_channels": backbone.out_channels, "in_height": rows, "in_width": columns}
    fitting = neck(**shape)
    if type(fitting) not in NECKS.values():
        check_neck(fitting, **shape)
    return EmbeddingNet(backbone=backbone, neck=fitting, input_spec=input_spec)


def build_network(card: dict[str, Any], *, trust: Trust = None, where: str = "the model") -> EmbeddingNet:
    """Builds the network that a card (see `EmbeddingNet.card`) describes, with fresh weights, on the default device.

    Args:
        card: the content of model.json.
        trust: packages of the user's own whose classes the card may name, see `trusted_class`.
        where: the path of the model, for messages.

    Raises:
        ModelError: the card names a backbone or a neck that is neither registered nor of a trusted package, or
            arguments it does not take.
    """
    try:
        check_trust(card, trust=trust, where=where)
        backbone = _class_of(card["backbone"], BACKBONES)(**card["backbone"]["arguments"])
        return join(
            backbone=backbone,
            neck=partial(_class_of(card["neck"], NECKS), **card["neck"]["arguments"]),
            input_spec=InputSpec.from_json(card["input_spec"]),
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"the model's card does not describe a network of this version ({type(error).__name__}: {error}); "
            f"known backbones: {', '.join(BACKBONES)}; known necks: {', '.join(NECKS)}"
        ) from None


def _class_of(entry: dict[str, Any], registered: Mapping[str, Any]) -> Callable[..., Any]:
    return trusted_class(str(entry["class"])) if "class" in entry else registered[entry["name"]]


def described(backbone: dict[str, Any]) -> str:
    """Describes a card's backbone in one line: its name and arguments."""
    name = backbone.get("name") or backbone["class"]
    arguments = ", ".join(f"{key}={value}" for key, value in backbone["arguments"].items())
    return f"{name} ({arguments})" if arguments else name


def count_parameters(network: nn.Module) -> int:
    """Returns the number of parameters, including frozen ones."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: EmbeddingNet) -> int:
    """Returns the multiply-accumulates of one image's forward pass (convolutions, matrices)."""
    counters = []

    def counting() -> FlopCounterMode:
        counters.append(FlopCounterMode(display=False))
        return counters[-1]

    trial_run(network, 1, 3, network.input_spec.height_px, network.input_spec.width_px, within=counting)
    return counters[-1].get_total_flops() // 2
