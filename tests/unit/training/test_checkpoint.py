"""Checkpoints restore exactly, are pruned to the last and the best, and a damaged one is skipped."""

import json
import logging
import resource
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from facerec.core.errors import CheckpointError, ConfigError
from facerec.core.metric import metrics_from
from facerec.heads.combined import MarginHead
from facerec.losses.objective import Objective
from facerec.networks.weights import read_model
from facerec.runs import whole_directory as writing
from facerec.runs.manifest import read_manifest
from facerec.training import checkpoint as checkpoint_module
from facerec.training.checkpoint import CheckpointStore, check_interval
from facerec.training.optimizer import SGD, AdamW
from facerec.training.train_state import TrainState


class TinyNet(nn.Module):
    """Stands in for an `EmbeddingNet`."""

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width)

    def card(self) -> dict:
        return {"backbone": {"name": "tiny", "arguments": {}}, "neck": {}, "input_spec": {}}


def state(*, seed: int = 0, settings=None, steps: int = 0, width: int = 4, fp16: bool = False) -> TrainState:
    """Live objects after some steps of noise."""
    torch.manual_seed(seed)
    network = TinyNet(width=width).to(memory_format=torch.channels_last)
    objective = Objective(head=MarginHead(num_classes=2, embedding_dim=3))
    named = [*network.named_parameters(), *objective.named_parameters(prefix="objective")]
    optimizer = (settings or SGD(lr=0.1)).build(named)
    made = TrainState(
        network=network, objective=objective, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=fp16)
    )
    advance(made, steps)
    return made


def advance(live: TrainState, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(2, 3, 5, 5)
        loss = live.network.bn(live.network.conv(x)).square().mean()
        loss = loss + live.objective.head(x[0, :, 0, :3], torch.tensor([0, 1, 1])).loss
        live.scaler.scale(loss).backward()
        live.scaler.step(live.optimizer)
        live.scaler.update()
        live.optimizer.zero_grad()


def tensors_of(live: TrainState) -> dict[str, torch.Tensor]:
    tensors = {**live.network.state_dict(), **live.objective.state_dict()}
    for number, parameter_state in live.optimizer.state_dict()["state"].items():
        tensors |= {f"{number}.{key}": value for key, value in parameter_state.items() if value is not None}
    return {key: value.clone() for key, value in tensors.items()}


def save(store: CheckpointStore, directory, step: int, live=None, *, accuracy=None, metrics_step=-1, about=None):
    metrics = []
    if accuracy is not None:
        metrics = metrics_from({"eval/lfw/accuracy": accuracy, "eval/lfw/threshold_cosine": 0.25})
    path = store.save(
        directory,
        step=step,
        state=live or state(),
        about=about or {"environment": {"torch": "2"}},
        metrics=metrics,
        metrics_step=step if metrics_step == -1 else metrics_step,
    )
    store.wait()
    return path


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    "settings", [SGD(lr=0.1), SGD(lr=0.1, momentum=0.0), SGD(lr=0.1, decay_norms_and_biases=False), AdamW(lr=0.1)]
)
@pytest.mark.parametrize("fp16", [False, True])
def test_restored_state_goes_on_to_the_same_bits(settings, fp16, tmp_path):
    live = state(settings=settings, steps=3, fp16=fp16)
    path = save(CheckpointStore(), tmp_path, 3, live)
    other = state(seed=9, settings=settings, steps=1, fp16=fp16)
    assert CheckpointStore().restore(path, other)["step"] == 3
    for runs in (0, 4):
        torch.manual_seed(5)
        advance(live, runs)
        torch.manual_seed(5)
        advance(other, runs)
        expected, found = tensors_of(live), tensors_of(other)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert other.scaler.state_dict() == live.scaler.state_dict()


def test_checkpoint_with_a_weight_that_is_not_finite_is_refused_by_name(tmp_path):
    live = state(steps=1)
    with torch.no_grad():
        live.network.conv.weight[0, 0] = float("nan")
    path = save(CheckpointStore(), tmp_path, 1, live)
    with pytest.raises(CheckpointError, match=r"step-00000001: conv\.weight holds NaN .*remove or rename"):
        CheckpointStore().restore(path, state())


def test_restored_tensors_keep_the_memory_layout_of_the_live_ones(tmp_path):
    path = save(CheckpointStore(), tmp_path, 1, state(steps=1))
    other = state()
    CheckpointStore().restore(path, other)
    weight = other.network.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert other.optimizer.state[weight]["momentum_buffer"].is_contiguous(memory_format=torch.channels_last)


def test_checkpoint_of_step_0_restores(tmp_path):
    live = state()
    path = save(CheckpointStore(), tmp_path, 0, live)
    other = state(seed=9)
    assert CheckpointStore().restore(path, other)["step"] == 0
    assert torch.equal(other.network.conv.weight, live.network.conv.weight)


def test_checkpoint_holds_a_model_its_card_and_a_manifest(tmp_path):
    path = save(CheckpointStore(), tmp_path, 12, accuracy=0.9, about={"trained_on": {"data_root": "x"}})
    assert path.name == "step-00000012"
    manifest = read_manifest(path)
    assert manifest["step"] == manifest["metrics_step"] == 12
    assert manifest["metrics"]["eval/lfw/accuracy"] == 0.9
    assert set(manifest["files"]) == {
        "model.json", "model.safetensors", "train_state/state.json", "train_state/__0_0.distcp",
        "train_state/.metadata",
    }  # fmt: skip
    card = json.loads((path / "model.json").read_text())
    assert card["step"] == 12 and card["trained_on"] == {"data_root": "x"}
    assert card["thresholds"] == {"eval/lfw/threshold_cosine": 0.25}
    assert set(read_model(str(path)).state) == set(TinyNet().state_dict())
    assert CheckpointStore().restore(path, state()) == manifest


def test_threshold_measured_at_an_earlier_step_does_not_travel_with_the_model(tmp_path):
    path = save(CheckpointStore(), tmp_path, 12, accuracy=0.9, metrics_step=10)
    assert json.loads((path / "model.json").read_text())["thresholds"] == {}
    assert read_manifest(path)["metrics"]["eval/lfw/accuracy"] == 0.9  # a resumed run knows its newest figures


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "kept"),
    [(1, 0, [6]), (2, 0, [5, 6]), (1, 1, [2, 6]), (2, 2, [2, 4, 5, 6]), (9, 0, [1, 2, 3, 4, 5, 6])],
)
def test_last_and_best_are_kept(keep_last, keep_best, kept, tmp_path):
    store = CheckpointStore(keep_last=keep_last, keep_best=keep_best)
    for step, accuracy in enumerate([0.5, 0.9, 0.6, 0.8, 0.7, 0.75], start=1):
        save(store, tmp_path, step, accuracy=accuracy)
    assert names(tmp_path) == [f"step-{step:08d}" for step in kept]


def test_keep_best_may_exceed_the_number_of_checkpoints(tmp_path):
    store = CheckpointStore(keep_last=1, keep_best=3)
    for step, accuracy in enumerate([0.1, 0.2, 0.3], start=1):  # the newest is always the best
        save(store, tmp_path, step, accuracy=accuracy)
        assert len(names(tmp_path)) == step
    save(store, tmp_path, 4, accuracy=0.4)
    assert names(tmp_path) == ["step-00000002", "step-00000003", "step-00000004"]


def test_only_checkpoints_that_were_measured_compete_for_the_best(tmp_path):
    store = CheckpointStore(keep_last=1, keep_best=1)
    save(store, tmp_path, 10, accuracy=0.9)
    for step in (12, 14, 16):  # between two evaluations: their figures are those of step 10
        save(store, tmp_path, step, accuracy=0.9, metrics_step=10)
    save(store, tmp_path, 20, accuracy=0.8)
    assert names(tmp_path) == ["step-00000010", "step-00000020"]


def test_best_is_the_mean_accuracy_or_the_metric_asked_for(tmp_path):
    figures = {1: (0.9, 0.5, 0.1), 2: (0.6, 0.9, 0.2), 3: (0.6, 0.6, 0.9), 4: (0.1, 0.1, 0.1)}
    for best_metric, kept in ((None, 2), ("eval/lfw/accuracy", 1), ("eval/lfw/auc", 3)):
        directory = tmp_path / str(kept)
        store = CheckpointStore(keep_last=1, keep_best=1, best_metric=best_metric)
        for step, (lfw, agedb, auc) in figures.items():
            metrics = metrics_from({"eval/lfw/accuracy": lfw, "eval/agedb/accuracy": agedb, "eval/lfw/auc": auc})
            store.save(directory, step=step, state=state(), about={}, metrics=metrics, metrics_step=step)
        store.wait()
        assert names(directory) == [f"step-{kept:08d}", "step-00000004"]


def test_folders_of_killed_writers_are_swept_up_by_the_next_save(tmp_path):
    (tmp_path / "step-00000001.partial-0a1b2c3d").mkdir()
    (tmp_path / "step-00000001.partial-0a1b2c3d" / "model.safetensors").write_bytes(b"half")
    assert CheckpointStore().newest(tmp_path) is None
    save(CheckpointStore(), tmp_path, 2)
    assert names(tmp_path) == ["step-00000002"]


def damage(path) -> None:
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def test_damaged_newest_is_passed_over_with_a_warning_that_names_the_file(tmp_path, caplog):
    store = CheckpointStore(keep_last=3)
    paths = [save(store, tmp_path, step) for step in (5, 10, 15)]
    damage(paths[2])
    with caplog.at_level(logging.WARNING, logger="facerec"):
        assert store.newest(tmp_path) == paths[1]
    assert [record.getMessage() for record in caplog.records if record.name == "facerec"] == [
        f"skipped: {paths[2]}/model.safetensors is not what was written (its SHA-256 differs); the checkpoint is "
        "damaged"
    ]
    for path in paths[:2]:
        damage(path)
    assert store.newest(tmp_path) is None
    for path in paths:
        with pytest.raises(CheckpointError, match=path.name):
            store.restore(path, state())


def test_place_of_a_damaged_checkpoint_is_taken_by_a_new_one_again_and_again(tmp_path):
    store = CheckpointStore(keep_last=2)
    save(store, tmp_path, 5)
    for seed in (1, 2):
        path = save(store, tmp_path, 10, state(seed=seed))
        assert torch.equal(read_model(str(path)).state["conv.weight"], state(seed=seed).network.conv.weight)
        damage(path)
    save(store, tmp_path, 10)
    assert names(tmp_path)[:2] == ["step-00000005", "step-00000010"]
    assert [name[:23] for name in names(tmp_path)[2:]] == ["step-00000010.set-aside"] * 2
    assert store.newest(tmp_path) == tmp_path / "step-00000010"


def test_damaged_checkpoint_ahead_never_displaces_a_whole_one(tmp_path):
    store = CheckpointStore(keep_last=1, keep_best=0)
    damage(save(store, tmp_path, 20, accuracy=0.99))
    assert save(store, tmp_path, 17) == store.newest(tmp_path)
    assert names(tmp_path) == ["step-00000017", "step-00000020"]
    save(store, tmp_path, 25)
    assert names(tmp_path) == ["step-00000025"]


def test_full_disk_is_a_checkpoint_error_and_leaves_the_earlier_ones(tmp_path, monkeypatch):
    before = save(CheckpointStore(), tmp_path, 5)

    def full(_tensors, _path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(CheckpointError, match=r"step-00000010 could not be written: .*No space left on device"):
        save(CheckpointStore(), tmp_path, 10)
    assert names(tmp_path) == ["step-00000005"] and CheckpointStore().newest(tmp_path) == before


def test_training_state_that_cannot_be_written_leaves_the_earlier_checkpoints(tmp_path):
    before = save(CheckpointStore(), tmp_path, 5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step-00000010 could not be written: .*File too large"):
            save(CheckpointStore(), tmp_path, 10, state(steps=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["step-00000005"] and CheckpointStore().newest(tmp_path) == before


@pytest.mark.parametrize("in_background", [True, False])
def test_what_is_saved_is_the_state_at_that_moment(in_background, tmp_path):
    live, store = state(steps=2), CheckpointStore(in_background=in_background)
    before = tensors_of(live)
    path = store.save(tmp_path, step=2, state=live, about={}, metrics={}, metrics_step=None)
    for tensor in [*live.network.state_dict().values(), *live.objective.state_dict().values()]:
        tensor.zero_()
    for kept in live.optimizer.state.values():
        kept["momentum_buffer"].zero_()
    store.wait()
    other = state(seed=9, steps=1)
    CheckpointStore().restore(path, other)
    assert all(torch.equal(value, before[key]) for key, value in tensors_of(other).items())


def test_failure_in_the_background_is_raised_by_the_next_look_and_only_once(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    store = CheckpointStore()
    store.save(tmp_path / "checkpoints", step=1, state=state(), about={}, metrics={}, metrics_step=None)
    while True:
        try:
            store.check()
        except CheckpointError as error:
            assert "step-00000001 could not be written" in str(error)
            break
        time.sleep(0.01)
    store.check()
    store.wait()


def test_full_disk_says_how_much_is_missing(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=123)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _path: usage)
    with (
        pytest.raises(CheckpointError, match=r"2\.00 GB are needed and 0\.00 GB free, so 2\.00 GB are missing"),
        writing.whole_directory(tmp_path / "a", {}, needed_bytes=2 * 10**9),
    ):
        raise OSError(28, "No space left on device")


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    path = save(CheckpointStore(), tmp_path, 5, state(steps=1))
    with pytest.raises(
        CheckpointError,
        match=r"does not fit this run: \S+ is \(.*\) in the checkpoint, \(.*\) in this run\. .*init_from=",
    ):
        CheckpointStore().restore(path, state(width=8))


def test_checkpoint_that_lacks_a_trained_parameter_is_refused(tmp_path):
    live = state(steps=1)
    live.network.conv.bias.requires_grad_(False)
    frozen = SGD(lr=0.1).build([*live.network.named_parameters(), *live.objective.named_parameters(prefix="objective")])
    frozen.state.update({p: live.optimizer.state[p] for group in frozen.param_groups for p in group["params"]})
    without_bias = TrainState(network=live.network, objective=live.objective, optimizer=frozen, scaler=live.scaler)
    with pytest.raises(CheckpointError, match=r"holds nothing for conv\.bias"):
        CheckpointStore().restore(save(CheckpointStore(), tmp_path, 1, without_bias), state())
    with pytest.raises(CheckpointError, match=r"holds conv\.bias, which this run does not train"):
        CheckpointStore().restore(save(CheckpointStore(), tmp_path, 2, state(steps=1)), without_bias)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"every_steps": 5, "every_epochs": 1}, r"checkpoint\.every_steps=5 and checkpoint\.every_epochs=1 are both"),
        ({"every_steps": 0}, r"checkpoint\.every_steps=0"),
        ({"every_epochs": -0.5}, r"checkpoint\.every_epochs=-0\.5"),
        ({"keep_last": 0}, r"checkpoint\.keep_last=0"),
        ({"keep_best": -1}, r"keep_best=-1"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        CheckpointStore(**arguments)


def test_interval_may_be_absent():
    check_interval("eval", every_steps=None, every_epochs=None)
