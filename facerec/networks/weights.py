"""Opens a model for evaluation or as a starting point: a run, a checkpoint, or a state dict of InsightFace."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from facerec.core.errors import CheckpointError, ModelError
from facerec.core.input_spec import InputSpec
from facerec.core.manifest import read_manifest
from facerec.networks.embedding_net import EmbeddingNet, build_network, described
from facerec.networks.iresnet import BLOCKS_PER_STAGE

MODEL_FILE = "model.safetensors"
CARD_FILE = "model.json"
VIT_OPTIONS = {(256, 12): "vit_t", (512, 12): "vit_s", (512, 24): "vit_b"}  # (token_dim, depth) in configs/backbone
CROP_PX = 112  # of all networks of InsightFace


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A network as it lay on disk.

    Attributes:
        card: what `build_network` takes, and what else model.json says (trained_on, thresholds).
        state: its tensors, on the CPU.
        path: where it came from.
        warnings: damaged checkpoints that were passed over on the way.
    """

    card: dict[str, Any]
    state: dict[str, torch.Tensor]
    path: Path
    warnings: list[str] = field(default_factory=list)

    def network(self) -> EmbeddingNet:
        """The network with these weights, on the CPU, in evaluation mode. Raises ModelError where they do not fit."""
        network = build_network(self.card)
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            raise ModelError(f"{self.path}: the weights do not fit the network that is described: {error}") from None
        return network.eval()


def read_model(path: str) -> StoredModel:
    """Reads a run directory (its newest whole checkpoint), a checkpoint, or InsightFace's `.pt` / `.pth` state dict.

    Nothing that is loaded runs code: tensors come through safetensors or torch's `weights_only`, all else is JSON.

    Raises:
        ModelError: the path does not exist or holds no model; the message says what was looked for.
        CheckpointError: the checkpoint is damaged.
    """
    location = Path(path).expanduser()
    if not location.exists():
        raise ModelError(f"model={path}: no such file or folder; expected a run directory, a checkpoint or a .pt")
    if location.is_file():
        if location.suffix in (".pt", ".pth"):
            return _read_insightface(location)
        if location.name != MODEL_FILE:
            raise ModelError(f"{location}: expected a .pt or .pth state dict, {MODEL_FILE}, or a run directory")
        location = location.parent
    if (location / MODEL_FILE).exists():
        return _read_checkpoint(location)
    newest, warnings = newest_whole(location / "checkpoints")
    if newest is None:
        raise ModelError(
            f"{location}: no {MODEL_FILE} and no whole checkpoint under checkpoints/ in this folder; "
            "expected a run directory or a checkpoint" + "".join(f"\n  {warning}" for warning in warnings)
        )
    stored = _read_checkpoint(newest)
    return StoredModel(card=stored.card, state=stored.state, path=newest, warnings=warnings)


def read_initial(path: str) -> StoredModel:
    """`read_model` for weights to start training from (`init_from`).

    Raises:
        ModelError: as `read_model`; or an ONNX file.
    """
    location = Path(path).expanduser()
    if location.is_file() and (location.suffix.lower() == ".onnx" or _begins_as_onnx(location)):
        raise ModelError(
            f"init_from={path}: an ONNX file cannot be trained on: exporting has folded batch normalisation into the "
            "convolutions, and its weights and statistics cannot be told apart any more. Start from what it was "
            "exported from: a run directory, a checkpoint, or a .pt of InsightFace"
        )
    return read_model(path)


def newest_whole(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint with the most steps whose manifest verifies, and a warning for each damaged one passed over."""
    warnings = []
    for path in step_directories(checkpoints)[::-1]:
        try:
            read_manifest(path)
        except CheckpointError as error:
            warnings.append(f"passed over: {error}")
        else:
            return path, warnings
    return None, warnings


def step_directories(checkpoints: Path) -> list[Path]:
    """The directories `step-<number>` in a folder, by number. Partial ones are left out."""
    found = checkpoints.glob("step-*") if checkpoints.is_dir() else []
    return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name)), key=lambda path: int(path.name[5:]))


def _read_checkpoint(location: Path) -> StoredModel:
    if (location / "manifest.json").exists():
        read_manifest(location)
    try:
        card = json.loads((location / CARD_FILE).read_text())
        state = load_file(location / MODEL_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(f"{location}: {MODEL_FILE} and {CARD_FILE} cannot be read: {error}") from None
    except Exception as error:  # safetensors has an error class of its own that it does not export in a stable place
        raise ModelError(f"{location / MODEL_FILE} is no safetensors file: {error}") from None
    return StoredModel(card=card, state=state, path=location)


def _read_insightface(path: Path) -> StoredModel:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(
            f"{path}: not a file of plain tensors ({reason}). Expected a state dict as "
            "InsightFace's arcface_torch writes it; files that carry code are never executed"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path}: expected a state dict (names to tensors), found another {type(state).__name__}")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    return StoredModel(card=_insightface_card(state, path), state=state, path=path)


def _begins_as_onnx(path: Path) -> bool:
    """A ModelProto starts with its ir_version (field 1), then the producer, the graph or the operator set."""
    with open(path, "rb") as file:
        start = file.read(3)
    return len(start) == 3 and start[0] == 0x08 and start[1] < 0x80 and start[2] in (0x12, 0x3A, 0x42)


def _insightface_card(state: dict[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """What network a state dict of arcface_torch belongs to, read off the names and shapes of its tensors."""
    try:
        backbone, neck, embedding_dim = _iresnet(state) or _mobilefacenet(state) or _vit(state) or ({}, "", 0)
    except (KeyError, IndexError, ValueError):  # a tensor that is absent, or has fewer dimensions
        backbone = {}
    if not backbone:
        raise ModelError(
            f"{path}: not an IResNet (depths {', '.join(map(str, BLOCKS_PER_STAGE))}), MobileFaceNet or ViT of "
            f"InsightFace; its {len(state)} tensors begin with {', '.join(list(state)[:3]) or 'none'}"
        )
    return {
        "backbone": backbone,
        "neck": {"name": neck, "arguments": {"embedding_dim": embedding_dim, "dropout": 0.0}},
        "input_spec": InputSpec().to_json(),
    }


_Found = tuple[dict[str, Any], str, int]  # backbone, name of the neck, embedding_dim


def _iresnet(state: dict[str, torch.Tensor]) -> _Found | None:
    blocks = tuple(_count(rf"layer{stage}\.(\d+)\.", state) for stage in range(1, 5))
    depth = next((depth for depth, stages in BLOCKS_PER_STAGE.items() if stages == blocks), None)
    if depth is None:
        return None
    arguments = {"depth": depth, "width_multiplier": state["conv1.weight"].shape[0] / 64}
    return {"name": "iresnet", "arguments": arguments}, "bn_dropout_fc_bn", state["fc.weight"].shape[0]


def _mobilefacenet(state: dict[str, torch.Tensor]) -> _Found | None:
    if "conv_sep.layers.0.weight" not in state:
        return None
    return {"name": "mobilefacenet", "arguments": {}}, "gdc", state["features.layers.2.weight"].shape[0]


def _vit(state: dict[str, torch.Tensor]) -> _Found | None:
    """With the 8 heads of all of InsightFace's; what it dropped in training is not stored."""
    depth = _count(r"blocks\.(\d+)\.attn\.", state)
    if depth == 0:
        return None
    token_dim, _, patch_size_px, _ = state["patch_embed.proj.weight"].shape
    arguments = {"token_dim": token_dim, "depth": depth, "patch_size_px": patch_size_px}
    arguments |= {"height_px": CROP_PX, "width_px": CROP_PX}
    return {"name": "vit", "arguments": arguments}, "fc_bn_fc_bn", state["feature.2.weight"].shape[0]


def _count(pattern: str, state: dict[str, torch.Tensor]) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def load_initial(network: EmbeddingNet, stored: StoredModel) -> str:
    """Copies weights into a network (`init_from`): all of the backbone, and of the neck what fits.

    Returns:
        The report: how many tensors were taken, which were not, with both shapes, and whether the images were
        normalised otherwise.

    Raises:
        ModelError: the backbones differ; the message names the one that is stored.
    """
    target = network.state_dict()
    fitting = {k: v for k, v in stored.state.items() if k in target and v.shape == target[k].shape}
    _check_backbone(network, stored, fitting)
    network.load_state_dict({**target, **fitting})
    lines = [f"init_from {stored.path}: {len(fitting)} of {len(target)} tensors taken"]
    for key in sorted(set(target) | set(stored.state)):
        if key not in fitting:
            theirs = tuple(stored.state[key].shape) if key in stored.state else "absent"
            ours = tuple(target[key].shape) if key in target else "absent"
            lines.append(f"  {key}: {theirs} there, {ours} here")
    here = network.card()["input_spec"]
    lines += [
        f"  input.{key}: {theirs} there, {here[key]} here; the weights expect what they were trained with"
        for key, theirs in stored.card["input_spec"].items()
        if theirs != here[key] and key in ("channels", "mean", "std")
    ]
    return "\n".join(lines)


def _check_backbone(network: EmbeddingNet, stored: StoredModel, fitting: dict[str, torch.Tensor]) -> None:
    """Refuses weights of another backbone, also one whose tensors happen to fit: IResNet-100 holds an IResNet-50's."""
    with torch.device("meta"):
        theirs = build_network(stored.card).backbone.state_dict()
    ours = network.backbone.state_dict()
    if {key: value.shape for key, value in theirs.items()} != {key: value.shape for key, value in ours.items()}:
        there, here = stored.card["backbone"], network.card()["backbone"]
        raise ModelError(
            f"init_from={stored.path} holds another backbone than this run trains: {described(there)} there, "
            f"{described(here)} here. Choose {_choice(there, here)}"
        )
    if absent := sorted(set(ours) - set(fitting)):
        raise ModelError(f"{stored.path}: {absent[0]} of its backbone is absent, or has another shape than described")


def _choice(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The overrides of `facerec train` that choose the backbone of a card."""
    name, arguments = there["name"], there["arguments"]
    if name == "iresnet":
        width, width_here = arguments["width_multiplier"], here["arguments"].get("width_multiplier", 1.0)
        needs_width = width != 1 or width_here != 1
        return f"backbone=iresnet{arguments['depth']}" + (f" backbone.width_multiplier={width}" if needs_width else "")
    if name == "vit":
        name = VIT_OPTIONS.get((arguments["token_dim"], arguments["depth"]), "vit_s")
    model = f" backbone.model={arguments['model']}" if "model" in arguments else ""
    return f"backbone={name}{model}, with the arguments that stand there"
