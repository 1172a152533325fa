"""The loss against that of an untrained network: at the first step, and after the warm-up."""

import logging

import pytest
import torch

from facerec.heads.combined import MarginHead
from facerec.heads.initial_loss import initial_loss
from facerec.heads.softmax import SoftmaxHead
from facerec.losses.objective import Objective, ObjectiveOutput
from facerec.training.loss_checks import LossAfterWarmUp, end_of_warmup, first_loss_line
from facerec.training.optimizer import SGD
from facerec.training.schedule import Cosine, Polynomial, StepDecay
from facerec.training.timetable import Timetable
from tests.unit.training.trainers import EMBEDDING_DIM


@pytest.mark.parametrize(
    ("first", "mean_cos", "says"),
    [
        (38.6, 0.02, ": the class centres start at random (89 degrees away)"),
        (21.0, 0.02, ": the class centres start at random"),  # few classes: the expected loss is too high
        (21.0, 0.7, ": the class centres are trained already (46 degrees away)"),
        (60.0, 0.0, ": it is higher than that of random class centres; check samples.png and the labels"),
        (45.0, -0.3, ": it is higher than that of random class centres"),
        (45.0, 0.12, ": the class centres start at random"),  # 4 standard deviations of 16 cosines in 64 dimensions
    ],
)
def test_first_loss_says_what_the_difference_means(first, mean_cos, says):
    line = first_loss_line(first, 40.3, mean_cos=mean_cos, num_samples=16, embedding_dim=64)
    assert line.startswith(f"first loss {first:.2f}; an untrained head is expected at 40.30: ") and says in line


def times(num_steps: int) -> Timetable:
    return Timetable(num_samples=640, global_batch_size=64, num_epochs=None, num_steps=num_steps)


def test_warm_up_ends_when_the_rate_is_highest_and_the_margin_is_whole():
    assert end_of_warmup(Polynomial(), times(5000), ramp_epochs=0) == 0
    assert end_of_warmup(Cosine(warmup_steps=50), times(500), ramp_epochs=0) == 50
    assert end_of_warmup(Cosine(warmup_steps=50), times(500), ramp_epochs=12) == 120
    decay = StepDecay(milestones_steps=[20_000, 28_000], warmup_epochs=4)
    assert end_of_warmup(decay, times(32_000), ramp_epochs=0) == pytest.approx(40, abs=32)  # read every 32 steps


class Fed:
    """A check that is fed one loss per step."""

    def __init__(self, *, warmup_steps: int = 50, num_steps: int = 5000) -> None:
        head = MarginHead(num_classes=100, embedding_dim=32, m2=0.3, scale=16.0)
        self.untrained = initial_loss(head)
        self.check = LossAfterWarmUp(objective=Objective(head=head), warmup_steps=warmup_steps, num_steps=num_steps)

    def feed(self, steps: range, loss: float) -> None:
        for step in steps:
            value = torch.tensor(loss)
            output = ObjectiveOutput(
                loss=value, logs={"loss": value}, target_cos_B=None, sample_losses_B=value.reshape(1)
            )
            self.check.after_micro_batch(Step(step), output)
            if (step + 1) % 20 == 0:
                self.check.log(step + 1)


class Step:
    def __init__(self, step: int) -> None:
        self.step, self.micro_index = step, 0


def test_loss_above_untrained_is_warned_of_once_and_only_after_the_warm_up(caplog):
    fed = Fed()
    fed.check.start(0)
    fed.feed(range(150), fed.untrained + 9)  # the warm-up, and a window after it
    fed.feed(range(150, 260), fed.untrained - 0.2)
    assert caplog.text == ""
    fed.feed(range(260, 359), fed.untrained + 0.2)
    assert caplog.text == ""  # no window is complete
    fed.feed(range(359, 900), fed.untrained + 0.2)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    untrained = f"{fed.untrained:.2f}"
    assert (
        f"steps 261 to 360: the mean loss is {fed.untrained + 0.2:.2f}, but an untrained network has {untrained}"
        in (record.getMessage())
    )


def test_loss_is_averaged_over_a_window_and_a_resumed_training_begins_a_new_one(caplog):
    fed = Fed(num_steps=40_000)  # a window of 400 steps
    fed.check.start(1000)
    fed.feed(range(1000, 1200), fed.untrained + 1)
    fed.feed(range(1200, 1400), fed.untrained - 1.5)
    assert caplog.text == ""
    fed.feed(range(1400, 1600), fed.untrained - 1)
    fed.feed(range(1600, 1800), fed.untrained + 1.5)
    assert "steps 1401 to 1800: the mean loss" in caplog.text


def test_a_rate_that_is_too_large_is_noticed_in_a_training_and_a_good_one_is_not(make_trainer, caplog):
    for name, lr in (("good", 0.02), ("large", 1.0)):
        caplog.clear()
        head = SoftmaxHead(num_classes=5, embedding_dim=EMBEDDING_DIM)
        make_trainer(name, num_steps=210, log_every_steps=10, head=head, optimizer=SGD(lr=lr)).fit()
        assert ("but an untrained network has" in caplog.text) == (name == "large"), caplog.text
