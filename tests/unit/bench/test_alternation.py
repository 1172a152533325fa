"""Timing in alternation."""

import time

import pytest
import torch

from facerec.bench.alternation import alternate


def test_calls_take_turns_and_ratios_are_to_the_first():
    order = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    calls = {"a": lambda: call("a", 0.02), "b": lambda: call("b", 0.06)}
    timings = alternate(calls, rounds=3, device=torch.device("cpu"))
    assert order == ["a", "b"] * 4
    assert timings["a"].ratio == 1 and timings["a"].ratio_range == (1, 1)
    assert timings["b"].ratio == pytest.approx(3, rel=0.5)
    assert timings["b"].min_s >= 0.06
