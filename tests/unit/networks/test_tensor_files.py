"""Weights files of every origin are read, or refused in one line that says what they are."""

import pytest
import torch

from facerec.core.errors import ModelError
from facerec.networks.weights import read_initial, read_model
from tests.unit.networks.small_networks import small, write_model


def test_checkpoint_of_arcface_torch_gives_its_backbone(tmp_path):
    network = small(size_px=112)
    checkpoint = {
        "epoch": 4,
        "global_step": 900,
        "state_dict_backbone": {f"module.{key}": value for key, value in network.state_dict().items()},
        "state_dict_softmax_fc": {"weight": torch.zeros(5, 512)},
        "state_optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "state_lr_scheduler": {"base_lrs": [0.1], "last_epoch": 900},
    }
    torch.save(checkpoint, tmp_path / "checkpoint_gpu_0.pt")
    stored = read_model(str(tmp_path / "checkpoint_gpu_0.pt"))
    assert torch.equal(stored.network().neck.fc.weight, network.neck.fc.weight)
    assert len(stored.warnings) == 1
    assert (
        "a checkpoint of arcface_torch: facerec takes its state_dict_backbone and ignores the rest"
        in stored.warnings[0]
    )


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("how", ["pth", "checkpoint"])
def test_weights_that_are_not_finite_are_named_as_they_are_read(value, how, tmp_path):
    network = small(size_px=112)
    network.backbone.layer2[0].conv1.weight.data[0, :2, 0, 0] = value
    path = tmp_path / "x.pth"
    if how == "pth":
        torch.save(network.state_dict(), path)
    else:
        path = write_model(tmp_path / "x", network)
    for read in (lambda: read_model(str(path)), lambda: read_initial(str(path), network)):
        with pytest.raises(ModelError, match=r"layer2\.0\.conv1\.weight holds NaN or infinite values \(2 of \d+\)"):
            read()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:8f2383e4\nsize 232589\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (POINTER, "is a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE html><html></html>", "is an HTML page"),
        (b"\xff\xd8\xff\xe0", "is an image, not weights"),
        (b'{"a": 1}', "is a JSON file, not weights"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("key", ["model", "init_from"])
@pytest.mark.parametrize("name", ["x.pth", "x.onnx", "model.safetensors"])
def test_files_that_are_not_what_they_seem_are_named(name, key, content, says, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    if name == "x.onnx" and key == "init_from" and "not weights" in says:
        says = "an ONNX file cannot be trained"  # its name says so
    with pytest.raises(ModelError, match=f"{name}.*{says}") as found:
        read_model(str(path)) if key == "model" else read_initial(str(path), small())
    assert "\n" not in str(found.value)


def test_onnx_network_as_a_model_says_what_is_possible(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"\x08\x08\x12\x07pytorch\x3a\x02ab")
    with pytest.raises(ModelError, match=r"x\.pth is an ONNX network; a model here is a run directory"):
        read_model(str(tmp_path / "x.pth"))


@pytest.mark.parametrize("is_zip", [True, False])
def test_whole_pickled_network_is_refused_without_torchs_advice(is_zip, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "x.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ModelError, match=r"torch\.save\(network\.state_dict\(\)") as found:
        read_model(str(tmp_path / "x.pth"))
    message = str(found.value)
    assert "torch.nn.modules.container.Sequential" in message
    assert "weights_only" not in message and "\033" not in message and "\n" not in message


@pytest.mark.parametrize("is_zip", [True, False])
def test_torch_file_that_was_cut_says_so(is_zip, tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(9999)}, path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    for num_bytes in (len(whole) - 9, len(whole) // 2, 200):
        path.write_bytes(whole[:num_bytes])
        with pytest.raises(ModelError, match=rf"x\.pth.* ends early.*{num_bytes:,} bytes"):
            read_model(str(path))
