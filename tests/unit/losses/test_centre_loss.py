"""Centre loss pulls to centres of its own, which move once per step, from the whole global batch."""

import numpy as np
import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.losses.centre_loss import CentreLoss
from tests.unit.losses.term_inputs import term_inputs

F64 = torch.float64


def moved(centres_CD: np.ndarray, emb_BD: np.ndarray, labels: list[int], alpha: float) -> np.ndarray:
    """Equation 4 of Wen et al., class by class."""
    result = centres_CD.copy()
    for j in set(labels):
        own = [i for i, label in enumerate(labels) if label == j]
        delta = sum(centres_CD[j] - emb_BD[i] for i in own) / (1 + len(own))
        result[j] = centres_CD[j] - alpha * delta
    return result


def test_value_is_half_the_mean_squared_distance_and_the_gradient_points_away_from_the_centre():
    term = CentreLoss(num_classes=3, embedding_dim=2)
    term.centres.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]))
    emb_BD = torch.tensor([[4.0, 4.0], [0.0, 1.0]], requires_grad=True)
    value = term(term_inputs(emb_BD, [0, 1]))
    value.backward()
    assert value.item() == pytest.approx((9 + 16) / 2 / 2)
    assert emb_BD.grad.tolist() == [[1.5, 2.0], [0.0, 0.0]]  # (x - c) / B


def test_centres_begin_at_zero_and_move_as_the_paper_says():
    rng = np.random.default_rng(0)
    term = CentreLoss(num_classes=5, embedding_dim=3, alpha=0.3).to(F64)
    expected = np.zeros((5, 3))
    assert np.array_equal(term.centres.numpy(), expected)
    for step in range(4):
        emb_BD, labels = rng.normal(size=(6, 3)), rng.integers(0, 4, 6).tolist()
        term.start_step(step)
        term(term_inputs(torch.from_numpy(emb_BD), labels))
        assert np.allclose(term.centres.numpy(), expected, rtol=0, atol=1e-15)  # constant within the step
        term.end_step()
        expected = moved(expected, emb_BD, labels, 0.3)
        np.testing.assert_allclose(term.centres.numpy(), expected, rtol=1e-13, atol=1e-15)
    assert (expected[4] == 0).all() and (expected[:4] != 0).all()


@pytest.mark.parametrize("micro_batch_size", [1, 4, 12])
def test_micro_batches_change_neither_the_mean_nor_the_centres(micro_batch_size):
    generator = torch.Generator().manual_seed(0)
    whole, parts = (CentreLoss(num_classes=4, embedding_dim=3).to(F64) for _ in range(2))
    for step in range(3):
        emb_BD = torch.randn(12, 3, dtype=F64, generator=generator)
        labels_B = torch.randint(4, (12,), generator=generator)
        for term, size in ((whole, 12), (parts, micro_batch_size)):
            term.start_step(step)
            values = [
                term(term_inputs(emb, labels))
                for emb, labels in zip(emb_BD.split(size), labels_B.split(size), strict=True)
            ]
            term.end_step()
            if term is whole:
                (expected,) = values
            else:
                torch.testing.assert_close(torch.stack(values).mean(), expected, rtol=1e-13, atol=0)
    assert torch.equal(parts.centres, whole.centres)


def test_centres_are_saved_and_a_loaded_term_goes_on_as_the_other():
    generator = torch.Generator().manual_seed(0)
    first, second = (CentreLoss(num_classes=4, embedding_dim=3) for _ in range(2))

    def step(term: CentreLoss, emb_BD: torch.Tensor) -> None:
        term.start_step(0)
        term(term_inputs(emb_BD, [0, 1, 2, 2]))
        term.end_step()

    step(first, torch.randn(4, 3, generator=generator))
    assert set(first.state_dict()) == {"centres"} and not list(first.parameters())
    second.load_state_dict(first.state_dict())
    emb_BD = torch.randn(4, 3, generator=generator)
    step(first, emb_BD)
    step(second, emb_BD)
    assert torch.equal(first.centres, second.centres)


def test_a_step_that_was_broken_off_leaves_no_trace():
    term = CentreLoss(num_classes=2, embedding_dim=2)
    term.start_step(0)
    term(term_inputs(torch.full((2, 2), 100.0), [0, 1]))
    term.start_step(0)
    term(term_inputs(torch.ones(1, 2), [0]))
    term.end_step()
    assert term.centres.tolist() == [[0.25, 0.25], [0.0, 0.0]]  # alpha / 2 of the way from 0 to 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_classes": None}, "num_classes is null for CentreLoss; .* `facerec train` fills it in"),
        ({"alpha": 1.5}, r"alpha=1\.5 for CentreLoss; expected 0 \.\. 1"),
        ({"weight": float("nan")}, "weight=nan for CentreLoss"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        CentreLoss(**{"num_classes": 3, "embedding_dim": 2} | arguments)


def test_embeddings_of_another_size_are_refused():
    with pytest.raises(ConfigError, match="embedding_dim=2 for CentreLoss, but the network gives embeddings of 3"):
        CentreLoss(num_classes=3, embedding_dim=2)(term_inputs(torch.ones(2, 3), [0, 1]))
