"""Opening models: runs, checkpoints and InsightFace's state dicts; nothing that is loaded runs code."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import facerec
from facerec.core.errors import CheckpointError, ModelError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.iresnet import IResNet
from facerec.networks.mobilefacenet import MobileFaceNet
from facerec.networks.neck import FCBNFCBN, GDC, BNDropoutFCBN
from facerec.networks.vit import VisionTransformer
from facerec.networks.weights import (
    CARD_FILE,
    MODEL_FILE,
    StoredModel,
    load_initial,
    read_initial,
    read_model,
)
from facerec.runs.checkpoints import newest_whole, step_directories
from facerec.runs.whole_directory import whole_directory
from tests.unit.networks.small_networks import small, write_model


def write_checkpoint(folder: Path, network: EmbeddingNet) -> Path:
    with whole_directory(folder, {"step": 1}) as partial_folder:
        write_model(partial_folder, network)
    return folder


def images(size_px: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(3)).integers(0, 256, (3, size_px, size_px, 3), dtype=np.uint8)


def embedding(network: EmbeddingNet, size_px: int) -> np.ndarray:
    with torch.no_grad():
        return network(network.input_spec.normalise(torch.from_numpy(images(size_px)))).numpy()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("width", "embedding_dim"), [(0.25, 512), (0.375, 64)])
def test_state_dict_of_insightface_opens_as_it_is_with_depth_and_width_read_off(prefix, width, embedding_dim, tmp_path):
    network = small(size_px=112, width=width, embedding_dim=embedding_dim)
    path = tmp_path / "backbone.pth"
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    stored = read_model(str(path))
    assert stored.card["backbone"] == {"name": "iresnet", "arguments": {"depth": 18, "width_multiplier": width}}
    assert stored.card["input_spec"] == {
        "height_px": 112, "width_px": 112, "channels": "RGB", "mean": 127.5, "std": 127.5,
    }  # fmt: skip
    model = facerec.load(str(path), device="cpu")
    np.testing.assert_allclose(model.embed(images(112)), embedding(network, 112), rtol=1e-4, atol=1e-5)
    assert model.embed(list(images(112))).shape == (3, embedding_dim)


def test_state_dict_written_by_torch_from_a_network_here_opens_too(tmp_path):
    network = small(size_px=112)
    torch.save(network.state_dict(), tmp_path / "mine.pt")  # an OrderedDict with _metadata
    assert torch.equal(read_model(str(tmp_path / "mine.pt")).network().neck.fc.weight, network.neck.fc.weight)


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("how", ["pickle", "torch", "torch_inside"])
def test_file_with_code_is_refused_and_nothing_is_executed(suffix, how, tmp_path):
    trace, path = tmp_path / "was_here", tmp_path / f"model{suffix}"
    planted = {"conv1.weight": torch.zeros(2), "extra": Planted(trace)} if how == "torch_inside" else Planted(trace)
    if how == "pickle":
        path.write_bytes(pickle.dumps(planted))
    else:
        torch.save(planted, path)
    with pytest.raises(ModelError, match=rf"{path.name}: not a file of plain tensors"):
        facerec.load(str(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Planted(trace))).close()
    assert trace.exists()  # it would have worked


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", pickle.dumps(None), pickle.dumps({"a": 1})])
def test_files_that_are_no_state_dict_are_refused(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.pt"):
        read_model(str(tmp_path / "model.pt"))


@pytest.mark.parametrize(
    "state", [{}, {"conv1.weight": torch.zeros(())}, {"input_layer.0.weight": torch.zeros(64, 3, 3, 3)}]
)
def test_state_dicts_of_other_networks_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"not an IResNet .*, MobileFaceNet or ViT of InsightFace"):
        read_model(str(tmp_path / "model.pt"))


def test_weights_of_another_shape_are_a_model_error(tmp_path):
    state = small(size_px=112).state_dict()
    state["layer3.0.conv1.weight"] = torch.zeros(3, 3)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"layer3\.0\.conv1\.weight"):
        read_model(str(tmp_path / "model.pt")).network()


def test_run_opens_at_its_newest_whole_checkpoint_and_warns_of_damaged_ones(tmp_path):
    networks = {step: small(seed=step) for step in (5, 10, 20, 100)}
    for step, network in networks.items():
        write_checkpoint(tmp_path / "checkpoints" / f"step-{step:08d}", network)
    write_model(tmp_path / "checkpoints" / "step-00000900.partial-1234abcd", small(seed=9))
    write_model(tmp_path / "checkpoints" / "step-00000800.set-aside-1234abcd", small(seed=9))
    newest = tmp_path / "checkpoints" / "step-00000100" / MODEL_FILE
    changed = bytearray(newest.read_bytes())
    changed[-1] ^= 1
    newest.write_bytes(changed)
    model = facerec.load(str(tmp_path), device="cpu")
    assert model.path.name == "step-00000020"
    assert len(model.warnings) == 1 and str(newest) in model.warnings[0]
    np.testing.assert_allclose(model.embed(images(32)), embedding(networks[20], 32), rtol=1e-4, atol=1e-5)
    for path in (newest, newest.parent):
        with pytest.raises(CheckpointError, match="step-00000100"):
            read_model(str(path))
    assert read_model(str(tmp_path / "checkpoints" / "step-00000005")).path.name == "step-00000005"


def test_step_directories_are_sorted_by_number_and_partial_ones_are_left_out(tmp_path):
    for name in ("step-00000100", "step-99", "step-123456789", "step-00000007.partial-1", "step-x", "other"):
        (tmp_path / name).mkdir()
    assert [path.name for path in step_directories(tmp_path)] == ["step-99", "step-00000100", "step-123456789"]
    assert newest_whole(tmp_path)[0] is None and len(newest_whole(tmp_path)[1]) == 3
    assert newest_whole(tmp_path / "absent") == (None, [])


def test_model_without_a_manifest_opens(tmp_path):
    network = small()
    write_model(tmp_path / "export", network)
    for path in (tmp_path / "export", tmp_path / "export" / MODEL_FILE):
        assert torch.equal(read_model(str(path)).network().neck.fc.weight, network.neck.fc.weight)


@pytest.mark.parametrize("name", ["absent", "absent.pt", "empty", "text.txt", "card_only"])
def test_path_without_a_model_is_a_model_error_that_names_it(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "card_only").mkdir()
    (tmp_path / "card_only" / CARD_FILE).write_text("{}")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ModelError, match=name):
        read_model(str(tmp_path / name))


@pytest.mark.parametrize(
    ("file", "content"), [(MODEL_FILE, b"no safetensors"), (MODEL_FILE, b""), (CARD_FILE, b"{"), (CARD_FILE, b"{}")]
)
def test_damaged_model_without_a_manifest_is_a_model_error(file, content, tmp_path):
    write_model(tmp_path, small())
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError):
        read_model(str(tmp_path)).network()


def test_initial_weights_are_copied_and_the_report_names_what_did_not_fit(tmp_path):
    theirs, ours = small(seed=1, embedding_dim=16), small(seed=2, embedding_dim=8)
    fresh_fc = ours.neck.fc.weight.clone()
    stored = read_model(str(write_model(tmp_path, theirs)))
    stored.state["odd"] = torch.zeros(3)
    report = load_initial(ours, stored)
    assert torch.equal(ours.backbone.layer4[1].conv2.weight, theirs.backbone.layer4[1].conv2.weight)
    assert torch.equal(ours.backbone.bn1.running_mean, theirs.backbone.bn1.running_mean)
    assert torch.equal(ours.neck.fc.weight, fresh_fc)
    num_tensors = len(ours.state_dict())
    lines = report.splitlines()
    assert lines[0] == f"init_from {tmp_path}: {num_tensors - 6} of {num_tensors} tensors taken"
    assert lines[1:] == [
        "  fc.bias: (16,) in the file, (8,) in this run",
        "  fc.weight: (16, 512) in the file, (8, 512) in this run",
        "  features.bias: (16,) in the file, (8,) in this run",
        "  features.running_mean: (16,) in the file, (8,) in this run",
        "  features.running_var: (16,) in the file, (8,) in this run",
        "  features.weight: (16,) in the file, (8,) in this run",
        "  odd: (3,) in the file, absent in this run",
    ]


@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        ((100, 1.0), (50, 1.0), "Choose backbone=iresnet100$"),  # every tensor of the smaller one would fit
        ((18, 0.375), (18, 0.25), r"Choose backbone=iresnet18 backbone\.width_multiplier=0\.375$"),
        ((34, 1.0), (18, 0.25), r"Choose backbone=iresnet34 backbone\.width_multiplier=1\.0$"),
    ],
)
def test_initial_weights_of_another_depth_or_width_are_refused_and_the_right_one_is_named(theirs, ours, says):
    def on_meta(depth: int, width: float) -> EmbeddingNet:
        with torch.device("meta"):
            return join(
                backbone=IResNet(depth=depth, width_multiplier=width), neck=BNDropoutFCBN, input_spec=InputSpec()
            )

    stored = on_meta(*theirs)
    model = StoredModel(card=stored.card(), state=stored.state_dict(), path=Path("runs/a"))
    with pytest.raises(ModelError, match=rf"^init_from=runs/a has another backbone .*depth={theirs[0]}.*{says}"):
        load_initial(on_meta(*ours), model)


def test_initial_weights_of_another_kind_of_backbone_are_refused_and_the_right_one_is_named(tmp_path):
    with torch.device("meta"):
        mbf = join(backbone=MobileFaceNet(), neck=GDC, input_spec=InputSpec())
        vit = join(backbone=VisionTransformer(token_dim=512, depth=24), neck=FCBNFCBN, input_spec=InputSpec())
    for network, says in ((mbf, "Choose backbone=mobilefacenet,"), (vit, "Choose backbone=vit_b,")):
        with pytest.raises(ModelError, match=says):
            load_initial(small(), StoredModel(card=network.card(), state=network.state_dict(), path=tmp_path))


def test_initial_weights_that_lack_a_part_of_the_backbone_are_refused(tmp_path):
    stored = read_model(str(write_model(tmp_path, small(seed=1))))
    del stored.state["layer3.1.bn3.running_var"]
    network = small()
    before = network.backbone.conv1.weight.clone()
    with pytest.raises(ModelError, match=r"layer3\.1\.bn3\.running_var of its backbone is absent"):
        load_initial(network, stored)
    assert torch.equal(network.backbone.conv1.weight, before)


def test_report_says_where_the_initial_weights_saw_other_pixels(tmp_path):
    stored = read_model(str(write_model(tmp_path, small(size_px=32))))
    stored.card["input_spec"] |= {"channels": "BGR", "std": 128.0}
    lines = load_initial(small(size_px=48), stored).splitlines()  # another size is no warning
    assert lines[-2:] == [
        "  input.channels: BGR in the file, RGB in this run; the weights need the input of their training",
        "  input.std: 128.0 in the file, 127.5 in this run; the weights need the input of their training",
    ]
    assert not any("height_px" in line for line in lines)


def test_mobilefacenet_and_vit_of_insightface_open_as_they_are(tmp_path):
    torch.manual_seed(0)
    mbf = join(backbone=MobileFaceNet(), neck=partial(GDC, embedding_dim=64), input_spec=InputSpec()).eval()
    vit = join(
        backbone=VisionTransformer(token_dim=32, depth=2), neck=partial(FCBNFCBN, embedding_dim=16),
        input_spec=InputSpec(),
    ).eval()  # fmt: skip
    for network in (mbf, vit):
        torch.save(network.state_dict(), tmp_path / "model.pt")
        model = facerec.load(str(tmp_path / "model.pt"), device="cpu")
        np.testing.assert_allclose(model.embed(images(112)), embedding(network, 112), rtol=1e-4, atol=1e-5)


def onnx_bytes() -> bytes:
    """How a ModelProto starts: ir_version 7, producer_name "pytorch"."""
    return b"\x08\x07\x12\x07pytorch" + b"\x1a\x051.9.0:" * 9


@pytest.mark.parametrize(
    ("name", "content"), [("w600k_r50.onnx", onnx_bytes()), ("x.ONNX", b"anything"), ("renamed.pt", onnx_bytes())]
)
def test_onnx_is_refused_as_initial_weights_with_the_reason(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"init_from=.*{name}: an ONNX file cannot be trained.*folded batch norm"):
        read_initial(str(tmp_path / name), small())


def test_what_is_no_onnx_file_is_read_as_ever(tmp_path):
    torch.save(small(size_px=112).state_dict(), tmp_path / "zip.pt")
    torch.save(small(size_px=112).state_dict(), tmp_path / "pickle.pt", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "pickle.pt"):
        assert "conv1.weight" in read_initial(str(tmp_path / name), small()).state
    write_model(tmp_path / "run", small())
    for path in (tmp_path / "run", tmp_path / "run" / MODEL_FILE):
        assert "conv1.weight" in read_initial(str(path), small()).state
