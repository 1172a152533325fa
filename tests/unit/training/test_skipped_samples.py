"""Samples that are skipped are told, counted and listed, over interruptions too."""

import csv
import logging

import pytest

from facerec.core.errors import DataError
from facerec.heads.combined import MarginHead
from facerec.runs.run_log import read_metrics
from facerec.training.checkpoint import CheckpointStore
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import EMBEDDING_DIM, parameters_of, same_bits, stopping_at


def damaged(*numbers: int) -> NoiseSource:
    return NoiseSource(num_classes=5, images_per_class=4, size_px=16, damaged=numbers)


def listed(trainer) -> list[list[str]]:
    with (trainer.run_log.files.skipped).open(newline="") as lines:
        return list(csv.reader(lines))


def test_skipped_samples_are_listed_once_and_counted(make_trainer, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("facerec"), "propagate", True)
    trainer = make_trainer(num_steps=10, source=damaged(3, 9), on_corrupt="skip", log_every_steps=2)
    assert trainer.fit().finished
    header, *rows = listed(trainer)
    assert header == ["sample", "first_step", "reason", "in_its_place"]
    steps = {index: next(s for s in range(10) if index in trainer.loader.sampler.indices(s)) for index in (3, 9)}
    assert rows == [
        ["3", str(steps[3]), "noise.rec, record 3: does not decode", "noise.rec, record 0"],
        ["9", str(steps[9]), "noise.rec, record 9: does not decode", "noise.rec, record 10"],
    ]
    counts = [line["data/skipped_samples"] for line in read_metrics(trainer.run_log.metrics_path) if len(line) == 3]
    assert counts[-1] == 2
    said = [record.message for record in caplog.records if "skipped" in record.message]
    assert f"step {steps[9]}: skipped noise.rec, record 9: does not decode" in said
    assert any(message.startswith("2 samples of 20 cannot be read; see ") for message in said)


def test_the_list_goes_on_after_an_interruption_and_so_does_the_run(make_trainer):
    whole = make_trainer(num_steps=10, source=damaged(3, 9), on_corrupt="skip", run="whole")
    whole.fit()
    first = make_trainer(num_steps=10, source=damaged(3, 9), on_corrupt="skip", run="parts")
    checkpoint = stopping_at(first, 3).fit().checkpoint
    second = make_trainer(num_steps=10, source=damaged(3, 9), on_corrupt="skip", run="parts", resume_from=checkpoint)
    second.fit()
    assert same_bits(parameters_of(second), parameters_of(whole)) and listed(second) == listed(whole)


def test_a_run_that_an_unreadable_sample_ended_goes_on_where_it_is_skipped(make_trainer, tmp_path):
    whole = make_trainer(num_steps=6, source=damaged(13), on_corrupt="skip", run="whole")
    whole.fit()
    assert [13 in whole.loader.sampler.indices(step) for step in range(3)] == [False, False, True]
    ended = make_trainer(num_steps=6, source=damaged(13), checkpoints=CheckpointStore(every_steps=1), run="ended")
    with pytest.raises(DataError, match="record 13"):
        ended.fit()
    newest = ended.checkpoints.newest(tmp_path / "ended" / "checkpoints")
    assert newest.name == "step-00000002"
    going_on = make_trainer(num_steps=6, source=damaged(13), on_corrupt="skip", run="ended", resume_from=newest)
    going_on.fit()
    assert same_bits(parameters_of(going_on), parameters_of(whole))


def test_what_the_class_means_skip_is_listed_too(make_trainer):
    head = MarginHead(num_classes=5, embedding_dim=EMBEDDING_DIM, init="class_mean")
    trainer = make_trainer(num_steps=1, source=damaged(3, 9, 17), on_corrupt="skip", head=head)
    assert not {3, 9, 17} <= set(trainer.loader.sampler.indices(0))
    trainer.fit()
    assert [row[:3] for row in listed(trainer)[1:]] == [
        [str(sample), "0", f"noise.rec, record {sample}: does not decode"] for sample in (3, 9, 17)
    ]


@pytest.mark.parametrize("text", ["sample,reason\n3,x\n", "sample,first_step,reason,in_its_place\nthree,1,x,y\n"])
def test_a_list_that_is_none_any_more_is_put_aside_and_ends_no_training(text, make_trainer):
    trainer = make_trainer(num_steps=10, source=damaged(3, 9), on_corrupt="skip")
    run_dir = trainer.run_log.files.path
    run_dir.mkdir()
    (run_dir / "skipped.csv").write_text(text)
    assert trainer.fit().finished
    assert [row[0] for row in listed(trainer)] == ["sample", "3", "9"]
    assert (run_dir / "skipped.unreadable.csv").read_text() == text


def test_nothing_is_written_where_nothing_is_skipped(make_trainer):
    trainer = make_trainer(num_steps=4, on_corrupt="skip")
    trainer.fit()
    assert not (trainer.run_log.files.skipped).exists()
