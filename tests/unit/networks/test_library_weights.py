"""Weights of torchvision load into its networks as backbones; those of other networks are refused."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from facerec.core.errors import ModelError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.library import TorchvisionBackbone
from facerec.networks.neck import BNDropoutFCBN
from facerec.networks.weights import load_initial, read_initial, read_model
from tests.unit.networks.small_networks import small


def write_of_library(path: Path, model: str, *, prefix: str = "", under: str = "") -> dict[str, torch.Tensor]:
    """A file as torchvision's users save it: all of a network, classification layers included."""
    torch.manual_seed(5)
    state = torchvision.models.get_model(model, weights=None).state_dict()
    stored = {prefix + key: value for key, value in state.items()}
    torch.save({under: stored, "epoch": 3} if under else stored, path)
    return state


def of_library(model: str) -> EmbeddingNet:
    return join(
        backbone=TorchvisionBackbone(model=model), neck=partial(BNDropoutFCBN, embedding_dim=8), input_spec=InputSpec()
    )


@pytest.mark.parametrize(("prefix", "under"), [("", ""), ("module.", ""), ("model.", "state_dict")])
def test_weights_of_torchvision_load_into_its_backbone_without_the_classification_layers(prefix, under, tmp_path):
    state = write_of_library(tmp_path / "resnet18.pth", "resnet18", prefix=prefix, under=under)
    network = of_library("resnet18")
    report = load_initial(network, read_initial(str(tmp_path / "resnet18.pth"), network))
    for key, value in network.backbone.model.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert "120 of 132 tensors taken" in report
    assert "no classification layers: fc.weight (1000, 512), fc.bias (1000,)" in report
    assert ("facerec takes its state_dict and ignores the rest" in report) == bool(under)


def test_files_of_safetensors_and_old_names_of_densenets_load_too(tmp_path):
    state = write_of_library(tmp_path / "new.pth", "densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): value
        for key, value in state.items()
        if "num_batches_tracked" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    save_file(old, tmp_path / "densenet121-a639ec97.safetensors")
    network = of_library("densenet121")
    load_initial(network, read_initial(str(tmp_path / "densenet121-a639ec97.safetensors"), network))
    assert torch.equal(
        network.backbone.model.features.denseblock2.denselayer3.conv2.weight,
        state["features.denseblock2.denselayer3.conv2.weight"],
    )


def test_weights_of_another_network_of_the_library_are_refused_in_one_line(tmp_path):
    write_of_library(tmp_path / "resnet50.pth", "resnet50")
    network = of_library("resnet18")
    with pytest.raises(
        ModelError, match=r"does not fit .*backbone\.model=resnet18: .*layer1\.0\.conv1\.weight"
    ) as found:
        read_initial(str(tmp_path / "resnet50.pth"), network)
    assert "\n" not in str(found.value) and "choose backbone=torchvision|timm" in str(found.value)


def test_weights_for_images_of_another_size_are_refused_with_the_reason(tmp_path):
    write_of_library(tmp_path / "vit.pth", "vit_b_16")
    with torch.device("meta"):
        network = of_library("vit_b_16")
    with pytest.raises(
        ModelError, match=r"pos_embedding: \(1, 197, 768\) in the file, \(1, 50, 768\) in the network.*another size"
    ):
        read_initial(str(tmp_path / "vit.pth"), network)


@pytest.mark.parametrize("model", ["resnet34", "resnet18"])  # with the blocks of the IResNets of these depths
def test_resnet_of_torchvision_is_not_taken_for_an_iresnet(model, tmp_path):
    path = tmp_path / "x.pth"
    write_of_library(path, model)
    for read in (lambda: read_model(str(path)), lambda: read_initial(str(path), small())):
        with pytest.raises(ModelError, match=rf"a ResNet as in torchvision.* backbone\.model={model} "):
            read()
