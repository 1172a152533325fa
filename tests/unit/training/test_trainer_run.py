"""A whole run: its intervals, evaluation, log, and how it ends and goes on."""

import json
import logging
import math
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch

from facerec.core.errors import ConfigError, DataError, TrainingError
from facerec.core.metric import values_of
from facerec.heads.initial_loss import initial_loss
from facerec.runs.run_log import read_metrics
from facerec.training.checkpoint import CheckpointStore
from facerec.training.freezing import Freezing
from facerec.training.optimizer import SGD, AdamW
from facerec.training.schedule import Polynomial
from facerec.training.settings import EvaluationPlan, TrainerSettings
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import (
    Accuracy,
    PlainNet,
    checkpoint_steps,
    parameters_of,
    same_bits,
    stopping_at,
)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ({"every_steps": 3}, [3, 6, 7]),
        ({"every_epochs": 1}, [3, 5, 7]),  # 2.5 steps an epoch: its last sample comes in steps 3, 5, 8
        ({"every_epochs": 0.4}, [1, 2, 3, 4, 5, 6, 7]),
        ({"every_epochs": 100}, [7]),
        ({}, [7]),
    ],
)
def test_checkpoints_are_written_at_their_interval_and_at_the_end(interval, expected, make_trainer):
    trainer = make_trainer(num_steps=7, checkpoints=CheckpointStore(keep_last=99, **interval))
    result = trainer.fit()
    assert checkpoint_steps(trainer) == expected
    assert (result.step, result.finished, result.checkpoint.name) == (7, True, "step-00000007")


def test_evaluation_runs_at_its_interval_before_the_checkpoint_and_its_best_is_kept(make_trainer):
    evaluator = Accuracy([0.7, 0.9, 0.8])
    trainer = make_trainer(
        num_steps=6, evaluators=[evaluator], eval_every_steps=2,
        checkpoints=CheckpointStore(every_steps=1, keep_last=1, keep_best=1),
    )  # fmt: skip
    result = trainer.fit()
    assert checkpoint_steps(trainer) == [4, 6]
    assert values_of(result.metrics) == {"eval/fake/accuracy": 0.8}
    lines = [line for line in read_metrics(trainer.run_log.metrics_path) if "eval/fake/accuracy" in line]
    assert [(line["step"], line["eval/fake/accuracy"]) for line in lines] == [(2, 0.7), (4, 0.9), (6, 0.8)]


def test_evaluation_leaves_training_as_it_was(make_trainer):
    plain = make_trainer("plain", dropout=0.4)
    watched = make_trainer("watched", dropout=0.4, evaluators=[Accuracy([0.1] * 4)], eval_every_steps=1)
    plain.fit()
    watched.fit()
    assert same_bits(parameters_of(watched), parameters_of(plain))


def test_log_lines_are_means_since_the_last_and_come_at_their_steps(make_trainer):
    each, some = make_trainer("each", num_steps=7), make_trainer("some", num_steps=7, log_every_steps=3)
    each.fit()
    some.fit()
    losses = {line["step"]: line["train/loss"] for line in read_metrics(each.run_log.metrics_path)}
    lines = read_metrics(some.run_log.metrics_path)
    assert [line["step"] for line in lines] == [1, 3, 6, 7]
    for before, line in pairwise([{"step": 0}, *lines]):
        steps = range(before["step"] + 1, line["step"] + 1)
        assert line["train/loss"] == pytest.approx(np.mean([losses[step] for step in steps]), rel=1e-6)
        assert line["train/epoch"] == pytest.approx(line["step"] / 2.5)
    assert set(lines[0]) == {
        "step", "time", "train/loss", "train/target_angle_deg", "train/lr", "train/grad_norm", "train/epoch",
        "speed/images_per_s", "speed/data_wait_share",
    }  # fmt: skip


def test_first_loss_is_logged_beside_the_expected_one(make_trainer, caplog):
    trainer = make_trainer(num_steps=1)
    with caplog.at_level(logging.INFO, logger="facerec"):
        trainer.fit()
    expected = initial_loss(trainer.objective.head)
    first = read_metrics(trainer.run_log.metrics_path)[0]["train/loss"]
    assert f"first loss {first:.2f}; an untrained head is expected at {expected:.2f}" in caplog.text


def test_loss_that_is_not_finite_stops_the_run_and_nothing_is_saved_afterwards(make_trainer):
    trainer = make_trainer(num_steps=9, micro_batch_size=4, checkpoints=CheckpointStore(every_steps=1, keep_last=9))

    def poison(_module, arguments):
        batch_number = len(seen)
        seen.append(batch_number)
        if batch_number == 7:  # step 3, micro-batch 1
            emb_BD, *others = arguments
            return torch.where(torch.arange(4)[:, None] == 2, torch.nan, emb_BD), *others

    seen: list[int] = []
    trainer.objective.register_forward_pre_hook(poison)
    with pytest.raises(TrainingError) as raised:
        trainer.fit()
    bad = int(trainer.loader.sampler.indices(3)[4 + 2])
    message = str(raised.value)
    assert message.startswith("step 3, micro-batch 1: not finite: the loss")
    assert f"for 1 of 4 samples: noise.rec, record {bad}." in message
    assert checkpoint_steps(trainer) == [1, 2, 3]
    assert [line["step"] for line in read_metrics(trainer.run_log.metrics_path)] == [1, 2, 3]


def test_divergence_names_the_weight_and_the_step(make_trainer):
    trainer = make_trainer(num_steps=50, optimizer=SGD(lr=1e30), checkpoints=CheckpointStore(every_epochs=50))
    with pytest.raises(TrainingError, match=r"step \d+, micro-batch 0: not finite: the embedding"):
        trainer.fit()
    assert not (trainer.run_log.files.path / "checkpoints").exists()


def test_weight_made_infinite_by_a_gradient_is_not_saved(make_trainer):
    trainer = make_trainer(num_steps=5, checkpoints=CheckpointStore(every_steps=1, keep_last=9))

    def overflow(gradient):
        steps.append(0)
        return gradient * (math.inf if len(steps) == 3 else 1)

    steps: list[int] = []
    trainer.network.backbone.layer2[0].conv1.weight.register_hook(overflow)
    with pytest.raises(
        TrainingError, match=r"step 2: its losses are finite, but after its update backbone\.\S+ is not"
    ):
        trainer.fit()
    assert checkpoint_steps(trainer) == [1, 2]


def test_image_that_does_not_decode_ends_training_with_its_name(make_trainer):
    trainer = make_trainer(
        source=NoiseSource(num_classes=5, images_per_class=4, size_px=16, damaged=(11,)), num_steps=9
    )
    with pytest.raises(DataError, match=r"noise\.rec, record 11: does not decode"):
        trainer.fit()


HARD = {  # everything that could depend on where a run was interrupted
    "num_steps": 9, "dropout": 0.4, "micro_batch_size": 4, "margin_ramp_epochs": 1.0, "clip_grad_norm": 2.0,
    "transforms": ({"HorizontalFlip": {"p": 0.5}}, {"GaussNoise": {"p": 0.5}}), "schedule": Polynomial(warmup_steps=2),
}  # fmt: skip


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"precision": "fp16"},
        {"precision": "bf16", "channels_last": False},
        {"precision": "fp64", "optimizer": AdamW(lr=1e-3)},
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_resumes_to_the_same_bits(number, parts, make_trainer, caplog):
    whole = make_trainer("whole", **HARD, **parts)
    whole.fit()
    stopped = stopping_at(make_trainer("stopped", **HARD, **parts), 3, number)
    result = stopped.fit()
    assert (result.step, result.finished, result.checkpoint.name) == (4, False, "step-00000004")
    assert checkpoint_steps(stopped) == [4]
    resumed = make_trainer("stopped", **HARD, **parts, resume_from=result.checkpoint)
    with caplog.at_level(logging.INFO, logger="facerec"):
        result = resumed.fit()
    assert (result.step, result.finished) == (9, True)
    assert same_bits(parameters_of(resumed), parameters_of(whole))
    assert resumed.state.scaler.state_dict() == whole.state.scaler.state_dict()
    assert f"resuming from {stopped.run_log.files.path}/checkpoints/step-00000004, step 4 of 9" in caplog.text
    assert "not bit-exact" not in caplog.text
    expected = {line["step"]: line["train/loss"] for line in read_metrics(whole.run_log.metrics_path)}
    assert {line["step"]: line["train/loss"] for line in read_metrics(resumed.run_log.metrics_path)} == expected


def test_finished_checkpoint_resumes_to_itself(make_trainer):
    first = make_trainer(evaluators=[Accuracy([0.75])])
    finished = first.fit()
    again = make_trainer(evaluators=[Accuracy([])], resume_from=finished.checkpoint)
    result = again.fit()
    assert (result.step, result.finished, result.checkpoint) == (4, True, finished.checkpoint)
    assert values_of(result.metrics) == {"eval/fake/accuracy": 0.75}


def test_figures_of_the_benchmarks_survive_a_stop(make_trainer):
    first = make_trainer(num_steps=6, evaluators=[Accuracy([0.75])], eval_every_steps=2)
    stopped = stopping_at(first, 2, signal.SIGTERM).fit()
    assert values_of(stopped.metrics) == {"eval/fake/accuracy": 0.75}
    second = make_trainer(
        num_steps=6, evaluators=[Accuracy([0.8, 0.85])], eval_every_steps=2, resume_from=stopped.checkpoint
    )
    assert values_of(second.fit().metrics) == {"eval/fake/accuracy": 0.85}


def test_resuming_with_other_threads_says_not_bit_exact(make_trainer, caplog):
    stopped = stopping_at(make_trainer(), 1, signal.SIGTERM).fit()
    resumed = make_trainer(num_threads=2, resume_from=stopped.checkpoint)
    with caplog.at_level(logging.WARNING, logger="facerec"):
        resumed.fit()
    assert "not bit-exact: this run resumes with num_threads 1 -> 2" in caplog.text


def test_two_runs_of_one_seed_have_the_same_bits_and_another_seed_has_not(make_trainer):
    runs = [make_trainer(run, dropout=0.4, seed=seed) for run, seed in (("a", 1), ("b", 1), ("c", 2))]
    for trainer in runs:
        trainer.fit()
    one, same, other = map(parameters_of, runs)
    assert same_bits(one, same) and not same_bits(one, other)


def test_manifest_says_what_exactness_needs_and_where_the_data_lay(make_trainer):
    manifest = json.loads((make_trainer(num_steps=1).fit().checkpoint / "manifest.json").read_text())
    assert manifest["environment"]["num_threads"] == 1 and manifest["environment"]["torch"] == torch.__version__
    assert manifest["trained_on"] == {"data_root": "noise"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "set exactly one"),
        ({"num_steps": 3, "num_epochs": 1}, "set exactly one"),
        ({"num_steps": 0}, r"trainer\.num_steps=0"),
        ({"num_epochs": math.inf}, r"trainer\.num_epochs=inf"),
        ({"num_steps": 3, "micro_batch_size": 0}, r"trainer\.micro_batch_size=0"),
        ({"num_steps": 3, "clip_grad_norm": 0.0}, r"trainer\.clip_grad_norm=0\.0"),
        ({"num_steps": 3, "num_threads": 0}, r"trainer\.num_threads=0"),
        ({"num_steps": 3, "margin_ramp_epochs": -1.0}, r"trainer\.margin_ramp_epochs=-1\.0"),
        ({"num_steps": 3, "ema_decay": 1.0}, r"trainer\.ema_decay=1\.0; expected a number between 0 and 1"),
        ({"num_steps": 3, "ema_decay": 0.0}, r"trainer\.ema_decay=0\.0"),
        ({"num_steps": 3, "class_mean_images": 0}, r"trainer\.class_mean_images=0"),
        ({"num_steps": 3, "precision": "fp8"}, r"trainer\.precision=fp8; expected one of fp32, bf16, fp16, fp64"),
    ],
)
def test_trainer_settings_that_cannot_work_are_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        TrainerSettings(**arguments)


def test_two_intervals_of_evaluation_are_refused():
    with pytest.raises(ConfigError, match=r"eval\.every_steps=5 and eval\.every_epochs=1 are both set"):
        EvaluationPlan(embedder=lambda network: None, every_steps=5, every_epochs=1)


def test_batch_of_one_and_log_interval_of_none_are_refused(make_trainer):
    with pytest.raises(ConfigError, match="one sample per forward pass"):
        make_trainer(micro_batch_size=1)
    make_trainer(micro_batch_size=1, network=PlainNet())
    make_trainer(micro_batch_size=1, freeze=Freezing(batch_norm=True))
    with pytest.raises(ConfigError, match=r"logging\.every_steps=0"):
        make_trainer(log_every_steps=0)


def test_fp64_is_refused_on_a_device_without_it(make_trainer, monkeypatch):
    monkeypatch.setattr("facerec.training.assembly.own_device", torch.device)
    with pytest.raises(ConfigError, match=r"trainer\.precision=fp64 on mps, which has no float64: use fp32"):
        make_trainer(device="mps", precision="fp64").fit()


def test_batches_are_not_pinned_for_a_training_on_the_cpu_of_a_machine_with_gpus(make_trainer, monkeypatch):
    trainer = make_trainer(num_steps=1)
    asked, batches = [], trainer.loader.batches
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        trainer.loader, "batches", lambda **given: asked.append(given["pin_memory"]) or batches(**given)
    )
    trainer.fit()
    assert asked == [False]
