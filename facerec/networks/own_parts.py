"""Backbones and necks of the user's own classes: their protocols, the checks when they are joined to a network, and
the rule by which a stored model names such a class and is opened again."""

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import nn

from facerec.core.errors import ModelError
from facerec.core.part_check import check_part, class_name, part_error
from facerec.networks.trial_run import trial_run

Trust: TypeAlias = str | Sequence[str] | None
"""The packages whose classes a model's card may name: one, several, or none."""


class Backbone(Protocol):
    """A network from images to a feature map. It derives from torch.nn.Module.

    Letters: B images, H x W pixels, C channels, h x w positions.

    Attributes:
        out_channels: C.
        arguments: the constructor's arguments with which the same network is made again, as plain values (numbers,
            text, true and false, None, lists and dictionaries of them). model.json stores them. Options that change
            neither the weights nor the embedding are left out.
    """

    out_channels: int
    arguments: Mapping[str, Any]

    def output_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Returns h and w for images of this size."""
        ...

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps normalised images (B, 3, H, W) to (B, C, h, w); floating type of the weights, or that of autocast."""
        ...


class NeckPart(Protocol):
    """A network from a feature map to the embedding. It derives from torch.nn.Module.

    Its constructor takes in_channels, in_height and in_width (C, h and w) besides the arguments of its own;
    `facerec.networks.neck.Neck` is a base class with everything but the layers.

    Attributes:
        embedding_dim: D, the length of the embedding.
        arguments: the constructor's other arguments, see `Backbone`.
    """

    embedding_dim: int
    arguments: Mapping[str, Any]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, h, w) to float32 (B, D), not normalised; fp64 stays fp64."""
        ...


def check_backbone(backbone: Any, *, height_px: int, width_px: int) -> None:
    """Refuses a backbone that lacks a part of `Backbone`, gives another shape than it says, or cannot be made again.

    Raises:
        ConfigError: names the class and everything that is wrong.
    """
    check_part(backbone, Backbone, key="backbone", kind="backbone", base=nn.Module)
    faults = _rebuilding_faults(backbone, {})
    size = tuple(backbone.output_size(height_px, width_px))
    faults += _shape_faults(backbone, (2, 3, height_px, width_px), (2, backbone.out_channels, *size), names="BCHW")
    if faults:
        raise part_error(backbone, faults, key="backbone", kind="backbone")


def check_neck(neck: Any, *, in_channels: int, in_height: int, in_width: int) -> None:
    """Refuses a neck that lacks a part of `NeckPart`, gives another shape than it says, or cannot be made again.

    Raises:
        ConfigError: names the class and everything that is wrong.
    """
    check_part(neck, NeckPart, key="neck", kind="neck", base=nn.Module)
    faults = _rebuilding_faults(neck, {"in_channels": in_channels, "in_height": in_height, "in_width": in_width})
    faults += _shape_faults(neck, (2, in_channels, in_height, in_width), (2, neck.embedding_dim), names="BD")
    if faults:
        raise part_error(neck, faults, key="neck", kind="neck")


def _shape_faults(part: nn.Module, given: tuple[int, ...], expected: tuple[int, ...], *, names: str) -> list[str]:
    try:
        found = trial_run(part, *given)
    except Exception as error:  # whatever the user's code raises
        return [f"forward fails on an input of shape {given} ({type(error).__name__}: {error})"]
    if not isinstance(found, torch.Tensor):
        return [f"forward returns a {type(found).__name__}; expected a tensor {expected}"]
    if tuple(found.shape) == expected:
        return []
    promised = "out_channels and output_size" if names == "BCHW" else "embedding_dim"
    return [f"forward maps {given} to {tuple(found.shape)}; {promised} promise {expected}"]


def _rebuilding_faults(part: nn.Module, more: dict[str, Any]) -> list[str]:
    """Returns why a stored model could not make this part again from its arguments."""
    cls, arguments = type(part), dict(part.arguments)  # type: ignore[arg-type]
    if "." in cls.__qualname__:
        return ["its class is defined inside a function or a class; move it to the top level of a module"]
    if not _is_plain(arguments):
        return [f"arguments is {arguments}; expected plain values only: numbers, text, lists, dictionaries"]
    stored = json.loads(json.dumps(arguments))
    try:
        again = _fresh(cls, {**more, **stored})
    except Exception as error:  # whatever the user's code raises
        return [f"it cannot be made again from its arguments {stored} ({type(error).__name__}: {error})"]
    found, expected = (_shapes(module) for module in (again, part))
    if unlike := [name for name in expected | found if expected.get(name) != found.get(name)]:
        there, here = (shapes.get(unlike[0], "absent") for shapes in (found, expected))
        return [
            f"made again from its arguments {stored}, it has other weights: {unlike[0]} is {there}, here {here}; "
            "arguments must hold every argument that changes the weights"
        ]
    return []


def _fresh(cls: type[nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            return cls(**arguments)
    except Exception:  # constructors that compute with values fail in many ways; without the meta device they may work
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return cls(**arguments)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def own_entry(part: nn.Module) -> dict[str, Any]:
    """Returns the card's entry of a part of the user's own class: the class's import path, and the arguments."""
    return {"class": class_name(part), "arguments": dict(part.arguments)}  # type: ignore[arg-type]


def check_trust(card: Mapping[str, Any], *, trust: Trust, where: str) -> None:
    """Refuses a card with classes of packages that the user has not named. Nothing is imported.

    Args:
        card: the content of model.json.
        trust: the packages that the user has named.
        where: the path of the model, for the message.

    Raises:
        ModelError: names the classes with their arguments, the packages, and what to type.
    """
    trusted = _named(trust)
    wanted = {part: card[part] for part in ("backbone", "neck") if "class" in card[part]}
    refused = {part: entry for part, entry in wanted.items() if not _is_within(str(entry["class"]), trusted)}
    if not refused:
        return
    packages = list(dict.fromkeys(str(entry["class"]).partition(".")[0] for entry in refused.values()))
    parts = " and ".join(f"its {part} is {_call(entry)}" for part, entry in refused.items())
    given = f"trust={','.join(trusted)} does not name it" if trusted else "no package is trusted"
    every = list(dict.fromkeys([*trusted, *packages]))
    typed, quoted = (every[0], f'"{every[0]}"') if len(every) == 1 else (f"[{','.join(every)}]", str(every))
    raise ModelError(
        f"{where}: {parts}, not part of facerec: opening this model would import {' and '.join(packages)} and run its "
        f"code, and {given}. If you trust it, give trust={typed} (in Python: facerec.load(..., trust={quoted}))"
    )


def trusted_class(path: str) -> type[nn.Module]:
    """Imports the class with a dotted path, which `check_trust` has accepted.

    Only a class that the named module itself defines at its top level, and that derives from torch.nn.Module, is
    returned: no function, no instance, nothing that the module imports from elsewhere.

    Raises:
        ModelError: the module cannot be found, or has no such class.
    """
    module_path, _, name = path.rpartition(".")
    if not all(word.isidentifier() for word in path.split(".")) or not module_path:
        raise ModelError(f"{path!r} is not the import path of a class, such as mylab.networks.Plain")
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        if not f"{module_path}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            f"{path}: Python does not find the module {error.name!r}: install the package (pip install -e), or put its "
            "parent folder into PYTHONPATH"
        ) from None
    found: Any = vars(module).get(name)  # getattr would also run the module's own __getattr__
    if not issubclass(type(found), type):
        kind = type(found).__name__
        what = "has nothing of this name" if found is None else f"has an object of the type {kind} under this name"
        raise ModelError(f"{path}: the module {module_path} {what}; expected a class, and nothing was called")
    if (found.__module__, found.__qualname__) != (module_path, name) or module.__name__ != module_path:
        raise ModelError(
            f"{path}: the module {module_path} does not define this class itself, it comes from {class_name(found)}; "
            "only classes that the trusted package defines are built"
        )
    if not issubclass(found, nn.Module):
        raise ModelError(f"{path}: the class does not derive from torch.nn.Module; nothing of it was called")
    return found


def _named(trust: Trust) -> list[str]:
    return [trust] if isinstance(trust, str) else list(trust or ())


def _is_within(path: str, trusted: Sequence[str]) -> bool:
    """True if the module of a class is one of the trusted packages, or below one."""
    module_path = path.rpartition(".")[0]
    return any(package and f"{module_path}.".startswith(f"{package}.") for package in trusted)


def _call(entry: Mapping[str, Any]) -> str:
    arguments = entry.get("arguments")
    given = ", ".join(f"{k}={v!r}" for k, v in arguments.items()) if isinstance(arguments, Mapping) else "..."
    return f"{entry['class']}({given})"
