"""Observers hear of everything that happens in a training, in one order."""

import pytest

from facerec.core.errors import DataError
from facerec.training.observers import Observer
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import stopping_at

Heard = list[tuple[str, str, object]]


class Noting(Observer):
    """Notes its name, what it hears of, and the step."""

    def __init__(self, name: str, heard: Heard) -> None:
        self.name, self.heard = name, heard

    def start(self, step):
        self.heard.append((self.name, "start", step))

    def before_forward(self, batch, images_BCHW):
        assert images_BCHW.shape == (4, 3, 16, 16) and images_BCHW.is_floating_point()
        self.heard.append((self.name, "before_forward", (batch.step, batch.micro_index)))

    def after_micro_batch(self, batch, output):
        assert output.target_cos_B.shape == (4,)
        self.heard.append((self.name, "after_micro_batch", (batch.step, batch.micro_index)))

    def after_step(self, outcome):
        assert outcome.grad_norm > 0 and not outcome.is_skipped
        self.heard.append((self.name, "after_step", outcome.step))

    def log(self, step):
        self.heard.append((self.name, "log", step))

    def before_save(self, step):
        self.heard.append((self.name, "before_save", step))

    def close(self):
        self.heard.append((self.name, "close", None))


def of_a_step(step: int) -> list[tuple[str, object]]:
    parts = [(what, (step, index)) for index in (0, 1) for what in ("before_forward", "after_micro_batch")]
    return [*parts, ("after_step", step)]


def watched(trainer) -> Heard:
    heard: Heard = []
    trainer.observers += [Noting("first", heard), Noting("second", heard)]
    return heard


def test_observers_hear_of_all_steps_over_a_stop_each_after_the_one_before(make_trainer):
    parts = {"num_steps": 3, "micro_batch_size": 4, "log_every_steps": 2, "ema_decay": 0.9}
    stopped = stopping_at(make_trainer(**parts), 0)
    heard = watched(stopped)
    result = stopped.fit()
    expected = [("start", 0), *of_a_step(0), ("log", 1), ("before_save", 1), ("close", None)]
    assert heard == [(name, *event) for event in expected for name in ("first", "second")]
    resumed = make_trainer(**parts, resume_from=result.checkpoint)
    heard = watched(resumed)
    resumed.fit()
    expected = [("start", 1), *of_a_step(1), ("log", 2), *of_a_step(2), ("log", 3), ("before_save", 3), ("close", None)]
    assert heard == [(name, *event) for event in expected for name in ("first", "second")]


def test_observers_are_closed_where_a_training_fails(make_trainer):
    source = NoiseSource(num_classes=5, images_per_class=4, size_px=16, damaged=tuple(range(20)))
    trainer = make_trainer(source=source, micro_batch_size=4)
    heard = watched(trainer)
    with pytest.raises(DataError):
        trainer.fit()
    assert heard == [(name, *event) for event in [("start", 0), ("close", None)] for name in ("first", "second")]
