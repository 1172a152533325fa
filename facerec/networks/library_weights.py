"""Fits a state dict of torchvision or timm to a backbone of that network, which has no classification layers."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from facerec.core.errors import ModelError
from facerec.networks.library import LibraryBackbone

_PREFIX = "model."
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # torchvision's own files still use it
_OF_IMAGE_SIZE = ("pos_embed", "relative_position", "attn_mask", "rel_pos")
_RESNETS = {
    ((2, 2, 2, 2), False): "resnet18", ((3, 4, 6, 3), False): "resnet34", ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101", ((3, 8, 36, 3), True): "resnet152",
}  # fmt: skip


def fit_to_library(
    backbone: LibraryBackbone, state: Mapping[str, torch.Tensor], *, path: Path
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Renames a library's tensors as in the backbone, and removes its classification layers.

    Args:
        backbone: a backbone of the same network.
        state: names as in the library, or with the prefix "model.".
        path: the file of the tensors; for messages.

    Returns:
        The tensors of the backbone, and a line that says what was removed.

    Raises:
        ModelError: the tensors belong to another network, or to the network for another image size.
    """
    ours = backbone.state_dict()
    parts = {key.split(".")[1] for key in ours}
    named = {_PREFIX + _OLD_DENSENET.sub(r"\1\2", key.removeprefix(_PREFIX)): value for key, value in state.items()}
    left_out = [key for key in named if key not in ours and key.split(".")[1] not in parts]
    # Files of torch before 0.4.1 have no count of batches, which only a cumulative average would need.
    counts = {key: value for key, value in ours.items() if key.endswith("num_batches_tracked")}
    fitting = {**counts, **{key: value for key, value in named.items() if key not in left_out}}
    _check(backbone, ours, fitting, path)
    if not left_out:
        return fitting, []
    shapes = ", ".join(f"{key.removeprefix(_PREFIX)} {tuple(named[key].shape)}" for key in left_out[:4])
    more = f" and {len(left_out) - 4} more" if len(left_out) > 4 else ""
    return fitting, [f"left out, as a backbone has no classification layers: {shapes}{more}"]


def library_network_of(state: Mapping[str, torch.Tensor]) -> str | None:
    """Returns the name of the torchvision ResNet with these names in its state dict; None for other networks."""
    if "layer1.0.conv1.weight" not in state or "layer1.0.bn1.weight" not in state or "prelu.weight" in state:
        return None
    found = [re.match(r"layer([1-4])\.(\d+)\.", key) for key in state]
    blocks = {(match[1], match[2]) for match in found if match}
    counts = tuple(sum(stage == str(number) for stage, _ in blocks) for number in range(1, 5))
    return _RESNETS.get((counts, "layer1.0.conv3.weight" in state))  # type: ignore[arg-type]


def _check(
    backbone: LibraryBackbone, ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], path: Path
) -> None:
    absent = [key for key in ours if key not in theirs]
    unknown = [key for key in theirs if key not in ours]
    unlike = [key for key in ours if key in theirs and theirs[key].shape != ours[key].shape]
    if not (absent or unknown or unlike):
        return
    name = backbone.arguments["model"]
    faults = []
    if unlike:
        key = unlike[0]
        shapes = f"{tuple(theirs[key].shape)} in the file, {tuple(ours[key].shape)} in the network"
        faults.append(f"{len(unlike)} tensors have other shapes ({key.removeprefix(_PREFIX)}: {shapes})")
    if absent:
        faults.append(f"the file lacks {len(absent)} tensors ({absent[0].removeprefix(_PREFIX)})")
    if unknown:
        faults.append(f"the file has {len(unknown)} tensors that {name} lacks ({unknown[0].removeprefix(_PREFIX)})")
    of_size = [key for key in unlike + absent + unknown if not any(word in key for word in _OF_IMAGE_SIZE)]
    mend = "It is of another network: choose backbone=torchvision|timm and the file's network as backbone.model"
    if not of_size:
        height_px, width_px = backbone.arguments["height_px"], backbone.arguments["width_px"]
        mend = (
            f"It is of the same network for images of another size than {height_px} x {width_px} pixels: train with "
            "that size, or choose a network without position embeddings, such as a ResNet or ConvNeXt"
        )
    raise ModelError(f"init_from={path} does not fit backbone={backbone.name} backbone.model={name}: "
                     f"{'; '.join(faults)}. {mend}")  # fmt: skip
