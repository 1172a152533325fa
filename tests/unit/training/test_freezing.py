"""What is frozen does not move by a bit, and thaws at its step, also across an interruption."""

import logging
from fractions import Fraction

import pytest
import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.heads.combined import MarginHead
from facerec.processes.group import ALONE
from facerec.training.checkpoint import STATE
from facerec.training.freezing import Freezing
from facerec.training.optimizer import SGD, AdamW
from facerec.training.state_files import read_tensors
from tests.unit.training.trainers import EMBEDDING_DIM, Accuracy, parameters_of, same_bits, stopping_at

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
STEM_AND_LAYER1 = ("conv1.", "bn1.", "prelu.", "layer1.")


def still(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The names of the tensors that are the same to the bit."""
    return {name for name in before if torch.equal(before[name], after[name])}


def test_frozen_parameters_and_statistics_do_not_move_by_a_bit_and_all_others_do(make_trainer):
    trainer = make_trainer(num_steps=3, freeze=Freezing(epochs={"backbone.layer2": None, "head": None}))
    before = parameters_of(trainer)
    trainer.fit()
    expected = {name for name in before if name.startswith(("layer2.", "head."))}
    assert len(expected) > 20
    assert still(before, parameters_of(trainer)) == expected | {"features.weight"}  # that weight never trains
    frozen = {f"backbone.{name}" for name in expected if name.startswith("layer2.")} | {"objective.head.centres.weight"}
    assert set(trainer.optimizer_step.freezer.parameters) == {n for n in frozen if not n.endswith(STATISTICS)}
    still_ones = trainer.optimizer_step.freezer.parameters.values()
    assert all(parameter not in trainer.state.optimizer.state for parameter, _ in still_ones)


def test_longer_name_inside_a_frozen_part_trains(make_trainer):
    trainer = make_trainer(num_steps=2, freeze=Freezing(epochs={"backbone": None, "backbone.layer4": 0}))
    before = parameters_of(trainer)
    trainer.fit()
    moved = set(before) - still(before, parameters_of(trainer))
    assert {name.split(".")[0] for name in moved} == {"layer4", "bn2", "fc", "features", "head"}


def test_part_thaws_at_the_step_after_its_epochs(make_trainer, caplog):
    trainer = make_trainer(num_steps=4, freeze=Freezing(epochs={"backbone": 1.0}))  # 2.5 steps an epoch
    seen: list[dict[str, torch.Tensor]] = []
    update = trainer.objective.end_step
    trainer.objective.end_step = lambda **scaling: (update(**scaling), seen.append(parameters_of(trainer)))[0]
    before = parameters_of(trainer)
    with caplog.at_level(logging.INFO, logger="facerec"):
        trainer.fit()
    backbone = {name for name in before if name.startswith((*STEM_AND_LAYER1, "layer"))}
    assert [len(still(before, after) & backbone) for after in seen] == [len(backbone)] * 3 + [0]
    assert "backbone is frozen until step 3" in caplog.text and "step 3: backbone is thawed" in caplog.text


def test_gradient_of_what_trains_is_that_of_a_network_whose_frozen_part_is_in_evaluation_mode(make_trainer):
    trainer = make_trainer(
        num_steps=1, precision="fp64", optimizer=SGD(lr=0.1, momentum=0.0, weight_decay=0.0),
        freeze=Freezing(epochs={"backbone": None}),
    )  # fmt: skip
    (batch,) = trainer.loader.batches(first_step=0, end_step=1)
    reference = make_trainer("reference", num_steps=1, precision="fp64")
    assert reference.state.network.training
    reference.network.backbone.eval()
    images = reference.network.input_spec.normalise(batch.images, dtype=torch.float64)
    reference.objective.head(reference.network(images), batch.labels).loss.backward()
    weight = reference.network.neck.fc.weight
    trainer.fit()
    torch.testing.assert_close(trainer.network.neck.fc.weight, weight - 0.1 * weight.grad, rtol=1e-10, atol=1e-12)


def test_statistics_stay_and_weights_of_batch_norm_train_with_batch_norm_frozen(make_trainer):
    trainer = make_trainer(
        num_steps=3, micro_batch_size=4, freeze=Freezing(batch_norm=True), evaluators=[Accuracy([0.5] * 3)],
        eval_every_steps=1,
    )  # fmt: skip
    before = parameters_of(trainer)
    trainer.fit()
    expected = {name for name in before if name.endswith(STATISTICS)}
    assert still(before, parameters_of(trainer)) == expected | {"features.weight"} and len(expected) > 60


FREEZES = {
    "thaws": Freezing(epochs={"backbone": 2.0, "neck": 1.0}),  # at steps 5 and 3
    "never": Freezing(epochs={"backbone.layer1": None, "head": 0.8}, batch_norm=True),
}


@pytest.mark.parametrize(
    ("name", "stop_after", "parts"),
    [
        ("thaws", 2, {}),
        ("thaws", 5, {"precision": "fp16", "ema_decay": 0.9}),  # the next step is the first that moves the backbone
        ("thaws", 6, {"optimizer": AdamW(lr=1e-3)}),
        ("never", 3, {"ema_decay": 0.9}),
    ],
)
def test_run_killed_while_frozen_or_after_resumes_to_the_same_bits(name, stop_after, parts, make_trainer):
    parts = {
        "num_steps": 8, "dropout": 0.4, "micro_batch_size": 4, "clip_grad_norm": 2.0, "freeze": FREEZES[name], **parts
    }  # fmt: skip
    whole = make_trainer("whole", **parts)
    whole.fit()
    stopped = stopping_at(make_trainer("stopped", **parts), stop_after - 1).fit()
    assert stopped.step == stop_after
    resumed = make_trainer("stopped", **parts, resume_from=stopped.checkpoint)
    assert resumed.fit().finished
    assert same_bits(parameters_of(resumed), parameters_of(whole))
    assert resumed.state.scaler.state_dict() == whole.state.scaler.state_dict()
    if whole.state.average is not None:
        assert same_bits(resumed.state.average.network.state_dict(), whole.state.average.network.state_dict())


def test_checkpoint_of_a_frozen_phase_holds_optimizer_state_of_what_moved_only(make_trainer):
    stopped = stopping_at(make_trainer(num_steps=8, freeze=FREEZES["thaws"]), 3).fit()
    stored = read_tensors(stopped.checkpoint / STATE, is_sharded=lambda name: False, processes=ALONE)
    names = {key.split("|")[0] for key in stored if key.startswith("optimizer.")}
    assert "optimizer.neck.fc.weight" in names and "optimizer.objective.head.centres.weight" in names
    assert not any(name.startswith("optimizer.backbone.") for name in names)


def test_clipping_and_chunked_engine_go_on_while_the_whole_network_is_frozen(make_trainer):
    head = MarginHead(num_classes=5, embedding_dim=EMBEDDING_DIM, m2=0.3, scale=16.0, engine="chunked")
    trainer = make_trainer(
        num_steps=2, head=head, clip_grad_norm=1.0, precision="fp16",
        freeze=Freezing(epochs={"backbone": None, "neck": None}),
    )  # fmt: skip
    before = parameters_of(trainer)
    trainer.fit()
    assert set(before) - still(before, parameters_of(trainer)) == {"head.centres.weight"}


def freezer(freeze: Freezing):
    network = nn.Module()
    network.backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    return freeze.build(
        list(network.named_parameters()), network=network, steps_of=lambda epochs: Fraction(10 * epochs)
    )


@pytest.mark.parametrize(
    ("freeze", "says"),
    [
        (lambda: Freezing(epochs={"backbone": -1.0}), r"freeze\.epochs\.backbone=-1\.0; expected 0 or more"),
        (lambda: Freezing(epochs={"backbone": float("inf")}), "null for ever"),
        (lambda: freezer(Freezing(epochs={"backbone.2": 1})), r"freeze\.epochs\.backbone\.2: no parameter"),
        (lambda: freezer(Freezing(epochs={"head": None})), r"freeze\.epochs\.head: no parameter"),
        (lambda: freezer(Freezing(epochs={"backbone": 1})), "leaves nothing to train in the first step"),
    ],
)
def test_freezing_that_cannot_work_is_refused(freeze, says):
    with pytest.raises(ConfigError, match=says):
        freeze()


def test_part_of_an_epoch_counts_and_parts_at_zero_need_not_exist():
    built = freezer(Freezing(epochs={"backbone.0": 0.25, "backbone.1": 0, "neck": 0, "head": 0}))
    assert {name: step for name, (_, step) in built.parameters.items()} == {
        "backbone.0.weight": 3,
        "backbone.0.bias": 3,
    }
    assert built.norms == []
