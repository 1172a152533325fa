"""Triplets are mined within the micro-batch as the papers say, and one without any is refused with the mend."""

import math

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.losses.triplet import Triplet
from tests.unit.losses.term_inputs import at_angles, term_inputs

MARGIN_DEG = 20


def triplet(mining: str) -> Triplet:
    return Triplet(margin_rad=math.radians(MARGIN_DEG), mining=mining)


def hinges_deg(*triplets: tuple[float, float]) -> float:
    """The mean of max(0, positive + margin - negative), in radians."""
    return math.radians(sum(max(0, pos + MARGIN_DEG - neg) for pos, neg in triplets) / len(triplets))


def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative_of_every_anchor():
    inputs = term_inputs(2 * at_angles([0, 10, 50, 70, 71]), [0, 0, 0, 1, 1])
    expected = hinges_deg((50, 70), (40, 60), (50, 20), (1, 20), (1, 21))
    assert triplet("batch_hard")(inputs).item() == pytest.approx(expected, rel=1e-6)


def test_semi_hard_takes_the_nearest_negative_beyond_the_positive_or_else_the_farthest():
    inputs = term_inputs(2 * at_angles([0, 30, 20, 45, 100]), [0, 0, 1, 2, 3])
    # of the anchor at 0: the negatives stand at 20, 45, 100 degrees; of that at 30: at 10, 15, 70
    expected = hinges_deg((30, 45), (30, 70))
    assert triplet("semi_hard")(inputs).item() == pytest.approx(expected, rel=1e-6)
    nearer = term_inputs(2 * at_angles([0, 60, 20, 50]), [0, 0, 1, 2])
    assert triplet("semi_hard")(nearer).item() == pytest.approx(hinges_deg((60, 50), (60, 40)), rel=1e-6)


def test_semi_hard_passes_over_a_negative_as_near_as_the_positive():
    inputs = term_inputs(at_angles([0, 30, 30, 100]), [0, 0, 1, 2])
    assert triplet("semi_hard")(inputs).item() == hinges_deg((30, 100), (30, 70)) == 0


def test_semi_hard_takes_every_pair_of_an_identity():
    inputs = term_inputs(at_angles([0, 10, 50, 70]), [0, 0, 0, 1])
    expected = hinges_deg((10, 70), (50, 70), (10, 60), (40, 60), (50, 20), (40, 20))
    assert triplet("semi_hard")(inputs).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_triplets_that_keep_the_margin_give_no_loss_and_no_gradient(mining):
    emb_BD = at_angles([0, 1, 90, 91]).requires_grad_()
    value = triplet(mining)(term_inputs(emb_BD, [0, 0, 1, 1]))
    value.backward()
    assert value.item() == 0 and (emb_BD.grad == 0).all()


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_anchors_without_a_positive_are_negatives_only(mining):
    value = triplet(mining)(term_inputs(at_angles([0, 30, 40]), [0, 0, 1]))
    assert value.item() == pytest.approx(hinges_deg((30, 40), (30, 10)), rel=1e-6)


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_and_opposite_embeddings_have_finite_gradients(mining, dtype):
    emb_BD = at_angles([0, 0, 180, 180, 0, 0], dtype=dtype).requires_grad_()
    value = triplet(mining)(term_inputs(emb_BD, [0, 0, 1, 1, 2, 2]))
    value.backward()
    assert value.isfinite() and emb_BD.grad.isfinite().all()


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]])
@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard"])
def test_micro_batch_without_a_triplet_is_refused_with_the_mend(mining, labels):
    with pytest.raises(ConfigError, match=r"data\.images_per_identity=4.*trainer\.micro_batch_size"):
        triplet(mining)(term_inputs(at_angles([0, 1, 2, 3]), labels))


def test_later_micro_batches_are_refused_too():
    term = triplet("batch_hard")
    term.start_step(0)
    term(term_inputs(at_angles([0, 1, 2]), [0, 0, 1]))
    with pytest.raises(ConfigError, match="without a triplet"):
        term(term_inputs(at_angles([0, 1, 2]), [0, 1, 2]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"margin_rad": 0.0}, r"margin_rad=0\.0 for Triplet"),
        ({"margin_rad": 20.0}, r"margin_rad=20\.0 for Triplet; expected radians"),
        ({"mining": "hard"}, "mining='hard' for Triplet; expected one of batch_hard, semi_hard"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        Triplet(**arguments)
