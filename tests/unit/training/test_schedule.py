"""The learning rate is a function of the step alone."""

import math

import pytest

from facerec.core.errors import ConfigError
from facerec.training.schedule import Cosine, Polynomial, StepDecay


def factors(schedule, steps, *, num_steps: int, steps_per_epoch: float = 10.0) -> list[float]:
    return [schedule.factor(step, num_steps=num_steps, steps_per_epoch=steps_per_epoch) for step in steps]


def test_polynomial_of_power_1_falls_linearly_to_0():
    assert factors(Polynomial(), [0, 1, 25, 50, 99], num_steps=100) == pytest.approx([1.0, 0.99, 0.75, 0.5, 0.01])


def test_polynomial_with_warm_up_power_and_floor():
    schedule = Polynomial(warmup_steps=4, power=2.0, final_factor=0.1)
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 0.1 + 0.9 * 0.75**2, 0.1 + 0.9 * 0.5**2, 0.1 + 0.9 * 0.25**2]
    assert factors(schedule, [0, 1, 2, 3, 4, 6, 8, 10], num_steps=12) == pytest.approx(expected, rel=1e-15)


def test_cosine_with_warm_up_and_floor():
    schedule = Cosine(warmup_epochs=0.5, final_factor=0.2)
    expected = [1 / 6, 5 / 6, 1.0, 0.2 + 0.8 * (1 + math.cos(math.pi * 0.25)) / 2, 0.6]
    assert factors(schedule, [0, 4, 5, 10, 15], num_steps=25) == pytest.approx(expected, rel=1e-15)
    assert factors(Cosine(), [0, 50], num_steps=100) == [1.0, 0.5]


def test_steps_of_the_paper():
    schedule = StepDecay(milestones_steps=[20_000, 28_000])
    found = factors(schedule, [0, 19_999, 20_000, 27_999, 28_000, 31_999], num_steps=32_000)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-15)


def test_milestones_in_epochs_count_from_the_start_and_follow_a_warm_up():
    schedule = StepDecay(milestones_epochs=[1, 2.5], gamma=0.5, warmup_steps=3)
    found = factors(schedule, [0, 1, 2, 3, 7, 8, 18, 19], num_steps=30, steps_per_epoch=7.5)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25], rel=1e-15)


@pytest.mark.parametrize(
    "schedule", [Polynomial(warmup_epochs=1.3), Cosine(warmup_steps=7), StepDecay(milestones_epochs=[2])]
)
def test_factor_does_not_depend_on_what_was_asked_before(schedule):
    forwards = factors(schedule, range(40), num_steps=40)
    assert factors(schedule, reversed(range(40)), num_steps=40) == forwards[::-1]
    assert all(0 < factor <= 1 for factor in forwards)


@pytest.mark.parametrize("schedule", [Polynomial(warmup_steps=100), Cosine(warmup_epochs=9.5)])
def test_warm_up_may_be_longer_than_the_run(schedule):
    found = factors(schedule, range(5), num_steps=5)
    assert found == sorted(found) and found[-1] < 0.06


@pytest.mark.parametrize("steps_per_epoch", [10 / 3, 0.25])
def test_warm_up_of_a_fraction_of_a_step_is_continuous(steps_per_epoch):
    found = factors(Polynomial(warmup_epochs=1), range(10), num_steps=10, steps_per_epoch=steps_per_epoch)
    peak = found.index(max(found))
    assert found[:peak] == sorted(found[:peak]) and found[peak:] == sorted(found[peak:], reverse=True)
    assert max(found) <= 1


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Polynomial(warmup_steps=1, warmup_epochs=1), "warmup_steps and schedule.warmup_epochs are both set"),
        (lambda: Cosine(warmup_steps=-1), "warmup_steps=-1"),
        (lambda: Cosine(warmup_epochs=-0.5), "warmup_epochs=-0.5"),
        (lambda: Polynomial(power=-1.0), "power=-1.0"),
        (lambda: Polynomial(final_factor=-0.1), "final_factor=-0.1"),
        (lambda: StepDecay(milestones_steps=[1], gamma=-0.1), "gamma=-0.1"),
        (lambda: StepDecay(), "exactly one of schedule.milestones_steps"),
        (lambda: StepDecay(milestones_steps=[1], milestones_epochs=[1]), "exactly one of schedule.milestones_steps"),
    ],
)
def test_schedules_that_cannot_work_are_refused(build, says):
    with pytest.raises(ConfigError, match=says):
        build()
