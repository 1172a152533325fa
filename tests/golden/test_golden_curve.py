"""A change that is meant to keep behaviour keeps the curve of twenty steps."""

import pytest
import torch

from tests.golden.curve import FIGURES, NUM_STEPS, golden_curve, read_pinned


@pytest.fixture
def curve(tmp_path):
    num_threads = torch.get_num_threads()
    yield golden_curve(tmp_path)
    torch.set_num_threads(num_threads)


def test_twenty_steps_follow_the_pinned_curve(curve):
    pinned = read_pinned()
    assert set(pinned) == set(FIGURES)
    for figure in FIGURES:
        assert len(curve[figure]) == NUM_STEPS
        assert curve[figure] == pytest.approx(pinned[figure], rel=1e-5), (
            f"{figure} left the golden curve; if that is meant, run `make golden` and say why in CHANGELOG.md"
        )
