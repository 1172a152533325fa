"""The expected end of a grid, in figures."""

import pytest

from facerec.sweeping.pace_of_trials import TrialClock, seconds_left


def running(
    *, started_s: float, num_steps: int = 100, seen: list[tuple[int, float]], first_step: int = 0
) -> TrialClock:
    clock = TrialClock(num_steps=num_steps, started_s=started_s, first_step=first_step)
    for step, time_s in seen:
        clock.see(step, time_s)
    return clock


def test_nothing_is_said_before_the_first_step_and_of_unknown_lengths():
    waiting = TrialClock(num_steps=100)
    assert seconds_left([running(started_s=0, seen=[]), waiting], num_jobs=1, now_s=5) is None
    known = running(started_s=0, seen=[(20, 30), (40, 50)])
    assert seconds_left([known, TrialClock()], num_jobs=1, now_s=50) is None


def test_first_trial_is_enough_for_an_estimate_and_its_start_is_paid_once_per_trial():
    # 10 s to start, then 1 s per step: 110 s per trial
    clocks = [running(started_s=0, seen=[(20, 30), (40, 50)]), TrialClock(num_steps=100), TrialClock(num_steps=50)]
    assert seconds_left(clocks, num_jobs=1, now_s=50) == pytest.approx(60 + 110 + 55)
    # with one line, its start counts as if it were steps
    assert seconds_left([running(started_s=0, seen=[(20, 30)])], num_jobs=1, now_s=30) == pytest.approx(30 / 20 * 80)
    # but not if others have shown more
    ended = TrialClock(num_steps=100, started_s=-110, ended_s=0)
    assert seconds_left([ended, running(started_s=0, seen=[(20, 30)])], num_jobs=1, now_s=30) == pytest.approx(80)


def test_finished_trials_count_and_jobs_share_what_waits():
    ended = TrialClock(num_steps=100, started_s=0, ended_s=200)
    clocks = [ended, running(started_s=100, seen=[]), *[TrialClock(num_steps=100)] * 2]
    assert seconds_left(clocks, num_jobs=1, now_s=200) == pytest.approx(100 + 400)
    assert seconds_left(clocks, num_jobs=2, now_s=200) == pytest.approx(300)  # one now, one when the running one ends
    assert seconds_left([ended], num_jobs=2, now_s=200) == 0


def test_resumed_trial_is_expected_to_do_only_the_rest():
    clock = running(started_s=0, first_step=60, seen=[(80, 30), (90, 40)])
    assert seconds_left([clock], num_jobs=1, now_s=40) == pytest.approx(10)
    assert clock.num_own_steps == 40
    assert clock.duration_s == pytest.approx(50)
