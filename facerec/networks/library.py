"""Any classification network of torchvision or timm, by name, as a backbone.

The classification layers are removed; their input is the feature map. Weights are fresh: arguments that would load or
open a library's own weights are refused, also in a model's card.
"""

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facerec.core.crop_size import size_keys
from facerec.core.errors import ConfigError
from facerec.networks.recompute import can_recompute, run_pieces
from facerec.networks.trial_run import run_on_meta

# Arguments of the libraries that load weights, and arguments that concern only the classification layers.
REFUSED = (
    "weights", "weights_backbone", "checkpoint_path", "cache_dir", "num_classes", "in_chans", "features_only",
    "aux_logits", "transform_input", "representation_size", "drop_rate", "scriptable", "exportable",
)  # fmt: skip
# Files of torchvision.models whose networks are a sequence of parts with the classification last.
ROWS = (
    "alexnet", "convnext", "densenet", "efficientnet", "googlenet", "inception", "maxvit", "mnasnet", "mobilenetv2",
    "mobilenetv3", "regnet", "resnet", "shufflenetv2", "squeezenet", "swin_transformer", "vgg",
)  # fmt: skip
VIT = "vision_transformer"
HEADS = ("avgpool", "flatten", "dropout", "fc", "classifier", "head", "heads", "aux1", "aux2", "AuxLogits")
# Errors that the libraries raise for an argument, or for an image size, that does not suit a network.
UNSUITABLE = (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError)


class LibraryBackbone(nn.Module, ABC):
    """A network of a library: (B, 3, height_px, width_px) -> (B, out_channels, h, w).

    A subclass defines how its library builds a network and computes the feature map. The library's network is the
    module `model`, so that its keys are the library's keys with the prefix "model.".

    Args:
        model: its name in the library.
        model_arguments: more arguments of the library's builder, such as a rate of stochastic depth.
        height_px, width_px: size of the images; transformers are made for one size.
        checkpoint_activations: compute activations again in the backward pass instead of keeping them.

    Raises:
        ConfigError: the library is not installed, it has no such network, or the network does not take such an argument
            or size, or cannot compute its activations again.
    """

    name: str
    """Returns the library's name, which a model's card stores."""

    def __init__(
        self,
        *,
        model: str,
        model_arguments: dict[str, Any] | None = None,
        height_px: int = 112,
        width_px: int = 112,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        given = dict(model_arguments or {})
        for key in given:
            if key in REFUSED or key.startswith("pretrained"):
                raise ConfigError(
                    f"backbone.model_arguments.{key}: leave it out; a backbone has fresh weights and no classification "
                    "layers (init_from= loads weights, neck.dropout acts on the feature map)"
                )
        self.arguments: dict[str, Any] = {
            "model": model,
            "model_arguments": given,
            "height_px": height_px,
            "width_px": width_px,
        }
        self.checkpoint_activations = checkpoint_activations
        self.model = self._network(model)
        self.out_channels = self._shape(height_px, width_px)[0]
        self._fit_to_training()

    @abstractmethod
    def _network(self, model: str) -> nn.Module:
        """Builds the library's network of this name, see `_build`."""

    @abstractmethod
    def _fit_to_training(self) -> None:
        """Removes parts that the feature map does not need, and prepares `checkpoint_activations` or refuses it."""

    def output_size(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Returns rows and columns of the feature map. Raises ConfigError if the network does not take this size."""
        return self._shape(height_px, width_px)[1:]

    def _build(self, builder: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
        more = self.arguments["model_arguments"]  # an argument that repeats another one is a TypeError
        try:
            try:
                return builder(**arguments, **more)
            except (RuntimeError, NotImplementedError):
                if torch.get_default_device().type != "meta":
                    raise
                # Some builders compute their sizes with tensors, which have no values on the meta device.
                with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                    return builder(**arguments, **more).to("meta")
        except UNSUITABLE as error:
            raise ConfigError(
                f"backbone.model={self.arguments['model']}: {self.name} cannot build it for "
                f"{self.arguments['height_px']} x {self.arguments['width_px']} pixels "
                f"({size_keys((self.arguments['height_px'], self.arguments['width_px']))}) with "
                f"backbone.model_arguments={more}: {_reason(error)}"
            ) from None

    def _shape(self, height_px: int, width_px: int) -> tuple[int, int, int]:
        """Returns channels, rows and columns for an image of this size."""
        try:
            with torch.no_grad():
                found = run_on_meta(self, 1, 3, height_px, width_px)
        except UNSUITABLE as error:
            made_for = (self.arguments["height_px"], self.arguments["width_px"])
            mend = f"choose another size ({size_keys((height_px, width_px))}) or network"
            if made_for != (height_px, width_px):
                mend = "set backbone.height_px and backbone.width_px to the input's size"
            raise ConfigError(
                f"backbone.model={self.arguments['model']}, made for {made_for[0]} x {made_for[1]} pixels, does not "
                f"take {height_px} x {width_px} ({_reason(error)}); {mend}"
            ) from None
        channels, rows, columns = found.shape[1:]
        return channels, rows, columns


class TorchvisionBackbone(LibraryBackbone):
    """A classification network of torchvision; its map does not contain the transformer's class token.

    Names are those of torchvision.models.list_models(module=torchvision.models).
    """

    name = "torchvision"

    def _network(self, model: str) -> nn.Module:
        from torchvision import models  # imported here, because it takes as long to import as torch

        families = {
            name: models.get_model_builder(name).__module__.rpartition(".")[2]
            for name in models.list_models(module=models)
        }
        known = [name for name, family in families.items() if family in (*ROWS, VIT)]
        if model not in known:
            raise _unknown(model, known, "torchvision.models.list_models(module=torchvision.models)")
        self.family = families[model]
        if "dropout" in self.arguments["model_arguments"] and self.family not in (VIT, "swin_transformer"):
            raise ConfigError(
                f"backbone.model_arguments.dropout: in {model} it is for the classification layers, which are removed; "
                "use neck.dropout"
            )
        network = self._build(models.get_model_builder(model), weights=None, **self._size_arguments())
        for head in HEADS:
            if hasattr(network, head):
                delattr(network, head)
        return network

    def _fit_to_training(self) -> None:
        if self.checkpoint_activations and self.family != VIT and not any(map(can_recompute, _pieces(self.model))):
            raise ConfigError(
                f"backbone.checkpoint_activations=true: {self.arguments['model']} has no blocks, only single layers, "
                "and would keep as much; set it to false and lower trainer.micro_batch_size"
            )

    def _size_arguments(self) -> dict[str, Any]:
        height_px, width_px = self.arguments["height_px"], self.arguments["width_px"]
        if self.family == VIT:
            if height_px != width_px:
                raise ConfigError(
                    f"backbone.model={self.arguments['model']} takes square images only, not {height_px} x {width_px} "
                    f"pixels ({size_keys((height_px, width_px))}): set a square size, or choose another network"
                )
            return {"image_size": height_px}
        if self.family == "maxvit":
            return {"input_size": (height_px, width_px)}
        if self.family in ("googlenet", "inception"):
            return {"init_weights": True}  # the default; without it, these networks warn
        return {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.family == VIT:
            return self._tokens(x)
        x = run_pieces(_pieces(self.model), x, recompute=self.checkpoint_activations)
        return F.relu(x) if self.family == "densenet" else x

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        x = model.conv_proj(x)
        grid = x.shape[2:]
        x = torch.cat([model.class_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = model.encoder.dropout(x + model.encoder.pos_embedding)
        x = model.encoder.ln(run_pieces(model.encoder.layers, x, recompute=self.checkpoint_activations))
        return x[:, 1:].transpose(1, 2).unflatten(2, grid)


class TimmBackbone(LibraryBackbone):
    """A network of timm (pytorch-image-models): the map or the tokens that its `forward_features` returns.

    Tokens without a position are removed. Needs the extra `timm`. Names are those of timm.list_models(). Activations
    cannot be computed again in networks with batch normalisation, because timm would update the statistics twice.
    """

    name = "timm"

    def _network(self, model: str) -> nn.Module:
        timm = _timm(model)
        known = timm.list_models()
        if model not in known:
            raise _unknown(model, known, "timm.list_models()")
        size = {}
        if getattr(timm.get_pretrained_cfg(model), "fixed_input_size", False):
            is_given = "img_size" in self.arguments["model_arguments"]
            size = {} if is_given else {"img_size": (self.arguments["height_px"], self.arguments["width_px"])}
        return self._build(timm.create_model, model_name=model, pretrained=False, num_classes=0, **size)

    def _fit_to_training(self) -> None:
        self._take_off_what_is_not_used()
        if self.checkpoint_activations:
            self._checkpoint()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.model.forward_features(x)  # type: ignore[operator]
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise ConfigError(
                f"backbone.model={self.arguments['model']} returns {type(features).__name__}, not a map or tokens; "
                "choose another network of timm"
            )
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else features
        tokens = features[:, getattr(self.model, "num_prefix_tokens", 0) :]
        return tokens.transpose(1, 2).unflatten(2, _grid(tokens.shape[1], *x.shape[2:]))

    def _take_off_what_is_not_used(self) -> None:
        """Removes parts and freezes parameters that do not influence the feature map: the rest of the head."""
        parameters = {name: p.detach().to("meta").requires_grad_() for name, p in self.named_parameters()}
        with torch.enable_grad():
            size = self.arguments["height_px"], self.arguments["width_px"]
            features = run_on_meta(self, 1, 3, *size, parameters=parameters)
            gradients = torch.autograd.grad(features.sum(), list(parameters.values()), allow_unused=True)
        used = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
        for name, part in list(self.model.named_children()):
            owned = [f"model.{name}.{key}" for key, _ in part.named_parameters()]
            if owned and not used.intersection(owned):
                setattr(self.model, name, nn.Identity())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in used)

    def _checkpoint(self) -> None:
        if any(isinstance(module, _BatchNorm) for module in self.model.modules()):
            reason = "it has batch normalisation, whose running statistics timm would update twice"
        else:
            try:
                self.model.set_grad_checkpointing(True)  # type: ignore[operator]
                return
            except (AttributeError, AssertionError):
                reason = "timm does not support it for this network"
        raise ConfigError(
            f"backbone.checkpoint_activations=true with backbone.model={self.arguments['model']}: {reason}. Set it to "
            "false and lower trainer.micro_batch_size"
        )


def _pieces(module: nn.Module) -> Iterator[nn.Module]:
    """Returns blocks and single layers, in the order in which they run."""
    for part in module.children():
        if type(part) in (nn.Sequential, nn.ModuleList):
            yield from _pieces(part)
        else:
            yield part


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _timm(model: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"backbone.model={model} needs timm, which cannot be imported ({error}); "
            "install the extra: pip install 'facerec[timm]'"
        ) from None
    return timm


def _unknown(model: str, known: Collection[str], listing: str) -> ConfigError:
    nearest = difflib.get_close_matches(model, list(known), n=3)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"there are {len(known)}, see {listing}"
    return ConfigError(f"backbone.model={model}: no backbone has this name; {hint}")


def _grid(num_tokens: int, height_px: int, width_px: int) -> tuple[int, int]:
    """Returns rows and columns of tokens with the proportions of the image; one column if no rows and columns fit."""
    rows = math.isqrt(num_tokens * height_px // width_px)
    columns = num_tokens // max(rows, 1)
    fits = rows * columns == num_tokens and rows * width_px == columns * height_px
    return (rows, columns) if fits else (num_tokens, 1)
