"""Reads the tensors of a weights file, of torch or safetensors, without running anything from the file."""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from facerec.core.errors import ModelError
from facerec.core.file_kind import FileKind, FileLook, look_at

CONTAINERS = ("state_dict_backbone", "state_dict", "model_state_dict", "model", "net", "backbone")
"""Keys under which training scripts store the weights of the network; the first is arcface_torch's."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "backbone.")
"""Prefix of all names of a wrapped network: by DDP, torch.compile, or a module of the user."""
PLAIN_FILE = "in the environment that made the file, torch.save(network.state_dict(), 'weights.pth')"
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """The content of a weights file.

    Attributes:
        state: its tensors by name, on the CPU, finite; without the prefix of a wrapper.
        notes: which part of the file they are, if the file holds more.
    """

    state: dict[str, torch.Tensor]
    notes: list[str] = field(default_factory=list)


def look_at_model(path: Path) -> FileLook:
    """`look_at` for a file of weights. Raises ModelError if the file cannot be read."""
    try:
        return look_at(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def read_tensor_file(look: FileLook) -> TensorFile:
    """Reads a state dict from a file of torch or safetensors.

    Raises:
        ModelError: the file has another format, is incomplete or damaged, or holds more than finite tensors.
    """
    path = look.path
    if (fault := look.not_itself()) is not None:
        raise ModelError(fault)
    if look.kind is FileKind.SAFETENSORS:
        found: Any = read_safetensors(path)
    elif look.kind in (FileKind.TORCH, FileKind.PICKLE):
        found = _read_torch(look)
    elif look.kind is FileKind.TORCH_SCRIPT:
        raise ModelError(
            f"{path} is a TorchScript archive, a network together with its code; facerec runs no code from files. Save "
            f"only its weights: {PLAIN_FILE}"
        )
    else:
        raise ModelError(
            f"{path} is {look.kind.value}, not weights; expected a state dict of torch (.pt, .pth) or of safetensors"
        )
    state, notes = _state_dict(found, path)
    state = _unwrapped(state)
    refuse_not_finite(state, where=path)
    return TensorFile(state=state, notes=notes)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a safetensors file. Raises ModelError."""
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error class is not exported in a stable place
        raise ModelError(f"{path}: a damaged safetensors file ({error}); get it again") from None


def refuse_not_finite(state: Mapping[str, torch.Tensor], *, where: Path) -> None:
    """Raises ModelError, naming the file and the first tensor that holds NaN or an infinite value."""
    bad = [name for name, value in state.items() if not _is_finite(value)]
    if bad:
        first = state[bad[0]].float()
        more = f", as do {len(bad) - 1} other tensors" if len(bad) > 1 else ""
        raise ModelError(
            f"{where}: {bad[0]} holds NaN or infinite values ({int((~first.isfinite()).sum())} of {first.numel()})"
            f"{more}. The weights were saved after a training had diverged, or the file is damaged: use an earlier "
            "checkpoint, or get the file again"
        )


def _is_finite(value: torch.Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    return bool(torch.stack(value.float().aminmax()).isfinite().all())  # a mask would need a copy


def _read_torch(look: FileLook) -> Any:
    path = look.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of torch about old formats
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message recommends running the file's code.
        names = re.findall(r"(?:GLOBAL|type|class) ['\"]?((?:\w+\.)+\w+)", str(error))
        if look.kind is FileKind.PICKLE and not names:
            reason = "it is a pickle that torch did not write, or is damaged"
        else:
            objects = f"objects ({names[0]}, ...)" if names else "objects"
            reason = f"it holds whole Python {objects}, as after torch.save(network)"
        raise ModelError(
            f"{path}: not a file of plain tensors: {reason}. facerec never runs code from files. Save only its "
            f"weights: {PLAIN_FILE}"
        ) from None
    except Exception as error:  # a damaged file can fail in any way
        raise ModelError(
            f"{path}: not a file of plain tensors: it ends early or is damaged ({look.size_bytes:,} bytes, "
            f"{type(error).__name__}). Get it again"
        ) from None


def _state_dict(found: Any, path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Returns the network's tensors from the loaded content, and a note if it holds more."""
    under: list[str] = []
    while (key := _container(found)) is not None:
        under.append(key)
        found = found[key]
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a state dict (names to tensors), found {_named(found)}")
    other = next((key for key, value in found.items() if not _is_plain(key, value)), None)
    if other is not None:
        raise ModelError(
            f"{path}: expected a state dict (names to tensors), found a dictionary of {len(found)} entries in which "
            f"{str(other)[:60]!r} is {_named(found[other])}; save only its weights: {PLAIN_FILE}"
        )
    notes = []
    if under:
        whose = "a checkpoint of arcface_torch" if under[0] == CONTAINERS[0] else "a checkpoint"
        notes.append(f"{path} is {whose}: facerec takes its {'.'.join(under)} and ignores the rest")
    return {key: value.detach() for key, value in found.items()}, notes


def _container(found: Any) -> str | None:
    """Returns the key under which a dictionary has the network's state dict; None for a state dict itself."""
    if not isinstance(found, dict):
        return None
    return next((key for key in CONTAINERS if isinstance(found.get(key), dict)), None)


def _is_plain(key: Any, value: Any) -> bool:
    is_tensor = isinstance(key, str) and isinstance(value, torch.Tensor)
    return is_tensor and value.layout is torch.strided and not value.is_quantized and value.device.type == "cpu"


def _named(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a tensor of another kind" if value.layout is not torch.strided or value.is_quantized else "a tensor"
    return f"a {type(value).__name__}"


def _unwrapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    while state and (prefix := next((p for p in WRAPPERS if all(key.startswith(p) for key in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
