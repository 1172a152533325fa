"""The draw of Partial FC."""

import torch

from facerec.heads.sampling import drawn_classes

NONE = torch.empty(0, dtype=torch.int64)


def draw(*, seed: int = 1, step: int = 0, num_classes: int = 100_000, rate: float = 0.1, labels=NONE) -> torch.Tensor:
    return drawn_classes(seed=seed, step=step, classes=range(num_classes), rate=rate, labels_of_step=labels)


def test_rate_is_kept_and_labels_are_always_drawn():
    for rate in (0.02, 0.1, 0.9):
        share = len(draw(rate=rate)) / 100_000
        assert abs(share - rate) < 4 * (rate * (1 - rate) / 100_000) ** 0.5
    labels = torch.tensor([5, 99_999, 5, 77])
    drawn = draw(rate=1e-9, labels=labels)
    assert drawn.tolist() == [5, 77, 99_999]
    assert len(draw(rate=1.0)) == 100_000


def test_a_class_is_drawn_by_its_own_number_whatever_the_number_of_classes():
    few, many = draw(num_classes=1000), draw(num_classes=100_000)
    assert few.tolist() == many[many < 1000].tolist()


def test_draws_of_other_steps_and_seeds_are_independent():
    base = set(draw().tolist())
    for other in (draw(step=1), draw(seed=2), draw(step=2**40)):
        both = len(base & set(other.tolist())) / 100_000
        assert abs(both - 0.01) < 0.002


def test_the_draw_is_pinned():
    assert draw(num_classes=100, rate=0.1).tolist() == [27, 32, 41, 67, 79]
