"""The toy of Figure 3: the gap between neighbouring identities grows with the margin."""

import numpy as np
import pytest
import torch

from scripts.figure3_toy import CASES, smallest_gap_deg, start_of_training, toy_faces, train_case


@pytest.mark.parametrize(
    ("degrees", "gap_deg"),
    [
        ([0, 2, 4, 90, 95, 100, 200, 210, 220, 350, 355, 359], 1.6),  # from 358.6 to 0.2: the outer 5 % do not count
        ([0, 10, 20, 15, 25, 35], -3.0),  # 16 .. 19 belongs to both
    ],
)
def test_smallest_gap_of_known_arcs(degrees, gap_deg):
    emb_ND = 3 * np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)
    labels_N = np.repeat(np.arange(len(degrees) // 3), 3)
    assert smallest_gap_deg(emb_ND, labels_N) == pytest.approx(gap_deg, abs=1e-6)


def test_smallest_gap_grows_with_the_margin():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pixels_NP, labels_N = toy_faces()
    names = ("softmax", "norm-softmax", "ArcFace 0.2", "ArcFace 0.4")
    gaps = []
    for seed in (1, 2):
        start = start_of_training(pixels_NP, labels_N, seed=seed)
        outcomes = [train_case(start, pixels_NP, labels_N, CASES[name], seed=seed) for name in names]
        gaps.append([outcome.smallest_gap_deg for outcome in outcomes])
    torch.set_num_threads(num_threads)
    softmax, none, narrow, wide = np.mean(gaps, axis=0)
    assert none + 2 < narrow and narrow + 2 < wide
    assert softmax + 5 < wide
