"""Epochs in steps, and what is due when."""

from types import SimpleNamespace

import pytest

from facerec.training.timetable import Timetable


def timetable(*, num_samples: int = 20, global_batch_size: int = 8, num_epochs=None, num_steps=None) -> Timetable:
    return Timetable(
        num_samples=num_samples, global_batch_size=global_batch_size, num_epochs=num_epochs, num_steps=num_steps
    )


@pytest.mark.parametrize(("num_epochs", "expected"), [(1, 2), (2, 5), (0.1, 1), (0.58, 1), (8, 20)])
def test_length_in_epochs_is_rounded_down_to_steps(num_epochs, expected):
    found = timetable(num_epochs=num_epochs)
    assert (found.num_steps, found.steps_per_epoch) == (expected, 2.5)


def test_end_of_an_epoch_is_not_missed_by_rounding():
    found = timetable(num_samples=299, global_batch_size=100, num_steps=1000)  # 0.5 epochs are 1.495 steps
    every = SimpleNamespace(every_steps=None, every_epochs=0.5)
    due = [step for step in range(1, 1000) if found.is_due(step, every)]
    assert due == [-(-1495 * n // 1000) for n in range(1, len(due) + 1)] and 299 in due


def test_end_of_the_run_is_always_due_and_nothing_else_without_an_interval():
    found = timetable(num_steps=7)
    never = SimpleNamespace(every_steps=None, every_epochs=None)
    assert [step for step in range(1, 8) if found.is_due(step, never)] == [7]
    assert [step for step in range(1, 8) if found.is_due(step, SimpleNamespace(every_steps=3))] == [3, 6, 7]


def test_lines_are_due_after_the_first_step_at_the_interval_and_at_the_end():
    def due(num_steps: int, first_step: int = 0) -> list[int]:
        found = timetable(num_steps=num_steps)
        steps = range(first_step + 1, num_steps + 1)
        return [step for step in steps if found.is_log_due(step, first_step=first_step, every_steps=10)]

    assert due(30) == [1, 10, 20, 30]
    assert due(36) == [1, 10, 20, 30, 36]
    assert due(34) == [1, 10, 20, 34]  # the rest of 4 steps joins the interval before
    assert due(30, first_step=13) == [14, 20, 30]
