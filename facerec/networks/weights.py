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
from facerec.networks.embedding_net import EmbeddingNet, build_network
from facerec.networks.iresnet import BLOCKS_PER_STAGE

MODEL_FILE = "model.safetensors"
CARD_FILE = "model.json"


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
    return StoredModel(card=_iresnet_card(state, path), state=state, path=path)


def _iresnet_card(state: dict[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """Depth and width of an IResNet, read off the names and shapes of its tensors (InsightFace's layout)."""
    blocks = tuple(len({m[1] for key in state if (m := re.match(rf"layer{n}\.(\d+)\.", key))}) for n in range(1, 5))
    depth = next((depth for depth, stages in BLOCKS_PER_STAGE.items() if stages == blocks), None)
    has_ends = all(key in state and state[key].ndim > 0 for key in ("conv1.weight", "fc.weight"))
    if depth is None or not has_ends:
        raise ModelError(
            f"{path}: not an IResNet of InsightFace (blocks per stage {blocks}); expected the keys conv1.weight, "
            f"layer1.0.… , fc.weight with the depths {', '.join(map(str, BLOCKS_PER_STAGE))}"
        )
    return {
        "backbone": {
            "name": "iresnet",
            "arguments": {"depth": depth, "width_multiplier": state["conv1.weight"].shape[0] / 64},
        },
        "neck": {
            "name": "bn_dropout_fc_bn",
            "arguments": {"embedding_dim": state["fc.weight"].shape[0], "dropout": 0.0},
        },
        "input_spec": InputSpec().to_json(),
    }


def load_initial(network: EmbeddingNet, stored: StoredModel) -> str:
    """Copies the weights that fit by name and shape into a network (`init_from`), and reports on the rest.

    Returns:
        The report: how many tensors were taken, and which were not, with both shapes.

    Raises:
        ModelError: not one tensor of the backbone fits.
    """
    target = network.state_dict()
    fitting = {k: v for k, v in stored.state.items() if k in target and v.shape == target[k].shape}
    if not any(key.startswith("layer") and key.endswith("weight") and fitting[key].ndim > 1 for key in fitting):
        raise ModelError(
            f"init_from={stored.path}: no convolution fits. It holds {stored.card['backbone']}, "
            f"this run trains {network.card()['backbone']}: choose the backbone that it holds"
        )
    network.load_state_dict({**target, **fitting})
    lines = [f"init_from {stored.path}: {len(fitting)} of {len(target)} tensors taken"]
    for key in sorted(set(target) | set(stored.state)):
        if key not in fitting:
            theirs = tuple(stored.state[key].shape) if key in stored.state else "absent"
            ours = tuple(target[key].shape) if key in target else "absent"
            lines.append(f"  {key}: {theirs} there, {ours} here")
    return "\n".join(lines)
