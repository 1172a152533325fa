"""Opens a model for evaluation or as a starting point: a run, a checkpoint, or a state dict in a file."""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from facerec.core.errors import ModelError
from facerec.core.file_kind import FileKind
from facerec.core.input_spec import InputSpec
from facerec.core.typed_text import override_of, typed_command
from facerec.networks.embedding_net import EmbeddingNet, build_network, described
from facerec.networks.iresnet import BLOCKS_PER_STAGE
from facerec.networks.library import LibraryBackbone
from facerec.networks.library_weights import fit_to_library, library_network_of
from facerec.networks.own_parts import Trust
from facerec.networks.tensor_files import (
    TensorFile,
    look_at_model,
    read_safetensors,
    read_tensor_file,
    refuse_not_finite,
)
from facerec.runs.checkpoints import CARD_FILE, newest_whole
from facerec.runs.choice import choose_checkpoint, split_choice
from facerec.runs.manifest import read_manifest
from facerec.runs.run_directory import RunDirectory

MODEL_FILE = "model.safetensors"
VIT_OPTIONS = {(256, 12): "vit_t", (512, 12): "vit_s", (512, 24): "vit_b"}  # (token_dim, depth) in configs/backbone
CROP_PX = 112  # size of all networks of InsightFace


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A network as stored on disk.

    Attributes:
        card: the input of `build_network`, and everything else in model.json (trained_on, thresholds).
        state: its tensors, on the CPU.
        path: the path that it was read from.
        note: which checkpoint of a run it is, and which one is the best; empty for anything but a run.
        warnings: notes for the user: damaged checkpoints that were skipped, tensors that were left out.
        trust: the packages, besides facerec, whose classes the card may name.
    """

    card: dict[str, Any]
    state: dict[str, torch.Tensor]
    path: Path
    warnings: list[str] = field(default_factory=list)
    note: str = ""
    trust: Trust = None

    def network(self) -> EmbeddingNet:
        """Returns the network with these weights, on the CPU, in evaluation mode.

        Raises:
            ModelError: the weights do not fit, or the card names a class of a package that is not trusted.
        """
        network = build_network(self.card, trust=self.trust, where=str(self.path))
        wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        found = {key: tuple(value.shape) for key, value in self.state.items()}
        if unfit := [key for key in wanted | found if wanted.get(key) != found.get(key)]:
            key = unfit[0]
            raise ModelError(
                f"{self.path}: the weights do not fit the described network: {key} is "
                f"{found.get(key, 'absent')}, expected {wanted.get(key, 'none of this name')}"
                + (f"; {len(unfit) - 1} more tensors do not fit either" if len(unfit) > 1 else "")
            )
        network.load_state_dict(self.state)
        return network.eval()


def read_model(path: str, *, trust: Trust = None) -> StoredModel:
    """Reads a run directory (its newest complete checkpoint; `runs/a@best` and `runs/a@step-400` choose another), a
    checkpoint, or a state dict of InsightFace in a file of torch or safetensors; the file's content decides, not its
    name.

    No loaded file runs code: tensors are read by safetensors or torch's `weights_only`, everything else is JSON. Only
    classes of the packages in `trust` are imported, by `StoredModel.network`.

    Raises:
        ModelError: the path does not exist or holds no model; the message says what it holds.
        CheckpointError: the checkpoint is damaged.
    """
    location, which = _existing(path)
    if location.is_file() and not _is_of_checkpoint(location):
        look = look_at_model(location)
        if look.kind is FileKind.ONNX:
            raise ModelError(
                f"{location} is an ONNX network; a model here is a run directory, a checkpoint, or a state dict (.pt, "
                ".pth, .safetensors). Give the model that it was exported from"
            )
        return _stored(read_tensor_file(look), location)
    return replace(_read_folder(location, which), trust=trust)


def read_initial(path: str, network: EmbeddingNet, *, trust: Trust = None) -> StoredModel:
    """Like `read_model`, for weights to start training from (`init_from`); if the network has a backbone of torchvision
    or timm, the file may also be a state dict of that library.

    Raises:
        ModelError: as `read_model`; or it is an ONNX file, or has the weights of another network.
    """
    location, which = _existing(path, key="init_from")
    if not location.is_file() or _is_of_checkpoint(location):
        return replace(_read_folder(location, which), trust=trust)
    look = look_at_model(location)
    if look.kind is FileKind.ONNX or (location.suffix.lower() == ".onnx" and look.not_itself() is None):
        raise ModelError(
            f"init_from={path}: an ONNX file cannot be trained: the export has folded batch normalisation into the "
            "convolutions, so that its weights and statistics cannot be separated. Start from the model that it was "
            "exported from: a run directory, a checkpoint, or an InsightFace .pt"
        )
    file = read_tensor_file(look)
    backbone = network.backbone
    if not isinstance(backbone, LibraryBackbone) or _found_in(file.state) is not None:
        return _stored(file, location)
    state, notes = fit_to_library(backbone, file.state, path=location)
    return StoredModel(card=network.card(), state=state, path=location, warnings=file.notes + notes)


def _existing(path: str, *, key: str = "model") -> tuple[Path, str | None]:
    """Returns the path, and which checkpoint of a run is wanted."""
    location, which = split_choice(path)
    if not location.exists():
        raise ModelError(f"{key}={path}: no such file or folder; expected a run directory, a checkpoint or a .pt")
    if which is not None and not RunDirectory(location).checkpoints.is_dir():
        raise ModelError(f"{key}={path}: @{which} chooses a checkpoint of a run directory, and {location} is none")
    return location, which


def _is_of_checkpoint(file: Path) -> bool:
    """True for the model file of a checkpoint, which has a card."""
    return file.name == MODEL_FILE and (file.parent / CARD_FILE).exists()


def _read_folder(location: Path, which: str | None) -> StoredModel:
    """Reads a run directory or a checkpoint, or the model file of a checkpoint."""
    location = location.parent if location.is_file() else location
    if (location / MODEL_FILE).exists():
        return _read_checkpoint(location)
    chosen = choose_checkpoint(RunDirectory(location), which)
    if chosen is None:
        _, warnings = newest_whole(RunDirectory(location).checkpoints)
        raise ModelError(
            f"{location}: this folder has no {MODEL_FILE} and no complete checkpoint under checkpoints/; "
            "expected a run directory or a checkpoint" + "".join(f"\n  {warning}" for warning in warnings)
        )
    stored = _read_checkpoint(chosen.path)
    return StoredModel(
        card=stored.card, state=stored.state, path=chosen.path, warnings=chosen.warnings, note=chosen.note
    )


def _read_checkpoint(location: Path) -> StoredModel:
    if (location / "manifest.json").exists():
        read_manifest(location)
    try:
        card = json.loads((location / CARD_FILE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        reason = look_at_model(location / CARD_FILE).not_itself() if (location / CARD_FILE).exists() else None
        raise ModelError(reason or f"{location}: {CARD_FILE} cannot be read ({error})") from None
    look = look_at_model(location / MODEL_FILE)
    if (fault := look.not_itself()) is not None:
        raise ModelError(fault)
    state = read_safetensors(look.path)
    refuse_not_finite(state, where=look.path)
    return StoredModel(card=card, state=state, path=location)


def _stored(file: TensorFile, path: Path) -> StoredModel:
    return StoredModel(card=_insightface_card(file.state, path), state=file.state, path=path, warnings=file.notes)


def _insightface_card(state: dict[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """Derives the network of an arcface_torch state dict from the names and shapes of its tensors."""
    found = _found_in(state)
    if found is None:
        raise ModelError(_other_network(state, path))
    backbone, neck, embedding_dim = found
    return {
        "backbone": backbone,
        "neck": {"name": neck, "arguments": {"embedding_dim": embedding_dim, "dropout": 0.0}},
        "input_spec": InputSpec().to_json(),
    }


_Found = tuple[dict[str, Any], str, int]  # backbone, name of the neck, embedding_dim


def _found_in(state: dict[str, torch.Tensor]) -> _Found | None:
    """Returns the InsightFace network that has these tensors."""
    try:
        return _iresnet(state) or _mobilefacenet(state) or _vit(state)
    except (KeyError, IndexError, ValueError):  # a tensor is absent, or has fewer dimensions
        return None


def _other_network(state: dict[str, torch.Tensor], path: Path) -> str:
    """Returns the message for tensors of a network that is not InsightFace's."""
    kinds = f"not an IResNet (depths {', '.join(map(str, BLOCKS_PER_STAGE))}), MobileFaceNet or ViT of InsightFace"
    if (name := library_network_of(state)) is not None:
        overrides = ["backbone=torchvision", override_of("backbone.model", name), override_of("init_from", path)]
        return (
            f"{path}: {kinds}, but a ResNet as in torchvision and timm: it distinguishes kinds of objects, and does "
            f"not embed faces. To train from it: {typed_command(['facerec', 'train', *overrides])}"
        )
    first = ", ".join(key[:60] for key in list(state)[:3])
    return (
        f"{path}: {kinds}; its {len(state)} tensors begin with {first or 'none'}. Weights of a network of torchvision "
        "or timm are only a start for training: init_from= with backbone=torchvision|timm backbone.model=<its name>"
    )


def _iresnet(state: dict[str, torch.Tensor]) -> _Found | None:
    blocks = tuple(_count(rf"layer{stage}\.(\d+)\.", state) for stage in range(1, 5))
    depth = next((depth for depth, stages in BLOCKS_PER_STAGE.items() if stages == blocks), None)
    if depth is None or "prelu.weight" not in state:  # torchvision's ResNets have the same names, but no PReLU
        return None
    arguments = {"depth": depth, "width_multiplier": state["conv1.weight"].shape[0] / 64}
    return {"name": "iresnet", "arguments": arguments}, "bn_dropout_fc_bn", state["fc.weight"].shape[0]


def _mobilefacenet(state: dict[str, torch.Tensor]) -> _Found | None:
    if "conv_sep.layers.0.weight" not in state:
        return None
    return {"name": "mobilefacenet", "arguments": {}}, "gdc", state["features.layers.2.weight"].shape[0]


def _vit(state: dict[str, torch.Tensor]) -> _Found | None:
    """Returns the ViT with 8 heads, as all of InsightFace's; its dropout in training is not stored."""
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
    """Copies weights into a network (`init_from`): all of the backbone, and the fitting tensors of the neck.

    Returns:
        The report: how many tensors were copied, which were not, with both shapes, and whether the images were
        normalised differently.

    Raises:
        ModelError: the backbones differ; the message names the stored one.
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
            lines.append(f"  {key}: {theirs} in the file, {ours} in this run")
    here = network.card()["input_spec"]
    lines += [
        f"  input.{key}: {theirs} in the file, {here[key]} in this run; the weights need the input of their training"
        for key, theirs in stored.card["input_spec"].items()
        if theirs != here[key] and key in ("channels", "mean", "std")
    ]
    more = [stored.note, *stored.warnings] if stored.note else stored.warnings
    return "\n".join([*lines, *(f"  {note}" for note in more)])


def _check_backbone(network: EmbeddingNet, stored: StoredModel, fitting: dict[str, torch.Tensor]) -> None:
    """Refuses weights of another backbone, even if all tensors fit: IResNet-100 contains an IResNet-50's."""
    with torch.device("meta"):
        theirs = build_network(stored.card, trust=stored.trust, where=str(stored.path)).backbone.state_dict()
    ours = network.backbone.state_dict()
    if {key: value.shape for key, value in theirs.items()} != {key: value.shape for key, value in ours.items()}:
        there, here = stored.card["backbone"], network.card()["backbone"]
        raise ModelError(
            f"init_from={stored.path} has another backbone than this run trains: {described(there)} in the file, "
            f"{described(here)} in this run. Choose {_choice(there, here)}"
        )
    if absent := sorted(set(ours) - set(fitting)):
        raise ModelError(f"{stored.path}: {absent[0]} of its backbone is absent, or has another shape than described")


def _choice(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Returns the overrides of `facerec train` that select the backbone of a card."""
    if "class" in there:
        return f"the backbone= of your --config-dir that builds {there['class']}, with the arguments of the file"
    name, arguments = there["name"], there["arguments"]
    if name == "iresnet":
        width, width_here = arguments["width_multiplier"], here["arguments"].get("width_multiplier", 1.0)
        needs_width = width != 1 or width_here != 1
        return f"backbone=iresnet{arguments['depth']}" + (f" backbone.width_multiplier={width}" if needs_width else "")
    if name == "vit":
        name = VIT_OPTIONS.get((arguments["token_dim"], arguments["depth"]), "vit_s")
    model = f" backbone.model={arguments['model']}" if "model" in arguments else ""
    return f"backbone={name}{model}, with the arguments of the file"
