"""Small IResNets, and their files, for tests of weights."""

import json
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.iresnet import IResNet
from facerec.networks.neck import BNDropoutFCBN
from facerec.networks.weights import CARD_FILE, MODEL_FILE


def small(*, seed: int = 0, size_px: int = 32, width: float = 0.25, embedding_dim: int = 8) -> EmbeddingNet:
    torch.manual_seed(seed)
    network = join(
        backbone=IResNet(depth=18, width_multiplier=width),
        neck=partial(BNDropoutFCBN, embedding_dim=embedding_dim),
        input_spec=InputSpec(height_px=size_px, width_px=size_px),
    )
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_()
    return network.eval()


def write_model(folder: Path, network: EmbeddingNet) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / MODEL_FILE)
    (folder / CARD_FILE).write_text(json.dumps(network.card()))
    return folder
