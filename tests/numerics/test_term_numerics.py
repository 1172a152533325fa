"""Values and gradients of every term in configs/loss against float64 formulas in numpy, and at hard places.

Letters: B samples, C classes, D embedding dimensions.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facerec.heads.combined import MarginHead
from facerec.losses.objective import Objective
from facerec.losses.term import Term
from tests.numerics import term_configs
from tests.numerics.term_configs import TERMS

B, C, D = 24, 7, 5
IMAGES = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (B, 4, 4, 3), dtype=np.uint8))
LABELS = [i % (C - 1) for i in range(B)]  # the last class has no sample


def build_term(name: str, **changes: Any) -> Term:
    """The term of a YAML for C classes and D dimensions, a centre loss with centres away from 0."""
    term = term_configs.build_term(name, num_classes=C, embedding_dim=D, **changes)
    if name == "centre_loss":
        term.centres.copy_(torch.from_numpy(CENTRES_CD))
    return term


CENTRES_CD = np.random.default_rng(4).normal(size=(C, D)).astype(np.float32)
"""Those of the centre loss, exact in fp32."""


# The formulas of FACTS section 1, sample by sample; analytic, so that a complex step gives their derivatives.


def angle(a: np.ndarray, b: np.ndarray) -> Any:
    return np.arccos(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def intra(x: np.ndarray, w: np.ndarray) -> Any:
    return sum(angle(x[i], w[LABELS[i]]) for i in range(B)) / (math.pi * B)


def inter(x: np.ndarray, w: np.ndarray) -> Any:
    pairs = [(y, j) for y in LABELS for j in range(C) if j != y]
    return -sum(angle(w[y], w[j]) for y, j in pairs) / (math.pi * B * (C - 1))


def mhe(x: np.ndarray, w: np.ndarray) -> Any:
    unit = w / np.sqrt((w * w).sum(axis=1, keepdims=True))
    pairs = [(y, j) for y in LABELS for j in range(C) if j != y]
    return sum(1 / ((unit[y] - unit[j]) ** 2).sum() for y, j in pairs) / (B * (C - 1))


def centre_loss(x: np.ndarray, w: np.ndarray) -> Any:
    return sum(((x[i] - CENTRES_CD[LABELS[i]].astype(float)) ** 2).sum() for i in range(B)) / 2 / B


def mined(x: np.ndarray, choose: Callable) -> Any:
    """The mean hinge over the triplets that `choose` makes of an anchor's positives and negatives."""
    hinges = []
    for i in range(B):
        theta = [angle(x[i], x[j]) if j != i else None for j in range(B)]
        positives = [theta[j] for j in range(B) if j != i and LABELS[j] == LABELS[i]]
        negatives = sorted((theta[j] for j in range(B) if LABELS[j] != LABELS[i]), key=lambda t: t.real)
        hinges += [
            positive + 0.35 - negative if positive.real + 0.35 > negative.real else 0.0
            for positive, negative in choose(positives, negatives)
        ]
    return sum(hinges) / len(hinges)


def batch_hard(x: np.ndarray, w: np.ndarray) -> Any:
    return mined(x, lambda positives, negatives: [(max(positives, key=lambda t: t.real), negatives[0])])


def semi_hard(x: np.ndarray, w: np.ndarray) -> Any:
    def choose(positives: list, negatives: list) -> list:
        return [(p, next((n for n in negatives if n.real > p.real), negatives[-1])) for p in positives]

    return mined(x, choose)


def distillation(x: np.ndarray, w: np.ndarray) -> Any:
    t = term_configs.first_pixels(IMAGES.numpy(), count=D).astype(float)
    return sum(1 - x[i] @ t[i] / np.sqrt(x[i] @ x[i]) / np.sqrt(t[i] @ t[i]) for i in range(B)) / B


FORMULAS = {
    "intra": (intra, "intra", {}),
    "inter": (inter, "inter", {"energy": "angle"}),
    "mhe": (mhe, "inter", {"energy": "mhe"}),
    "centre_loss": (centre_loss, "centre_loss", {}),
    "batch_hard": (batch_hard, "triplet", {"mining": "batch_hard"}),
    "semi_hard": (semi_hard, "triplet", {"mining": "semi_hard"}),
    "distillation": (distillation, "distillation", {}),
}


def test_every_term_has_its_formula_here():
    assert {name for _, name, _ in FORMULAS.values()} == set(TERMS)


def reference(formula: Callable, x: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient of the embeddings, gradient of the head's centres, by complex steps."""

    def slope(which: int, entry: tuple[int, int]) -> float:
        inputs = [x.astype(complex), w.astype(complex)]
        inputs[which][entry] += 1e-30j
        return np.imag(formula(*inputs)) / 1e-30

    gradients = [np.array([[slope(n, (i, k)) for k in range(D)] for i in range(len(a))]) for n, a in enumerate((x, w))]
    return np.real(formula(x.astype(complex), w.astype(complex))), *gradients


def points() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings at angles from 0 to pi to their centres, both ends left out, with lengths from 0.1 to 10; centres."""
    generator = torch.Generator().manual_seed(1)
    w_CD = torch.randn(C, D, dtype=torch.float64, generator=generator)
    own_BD = F.normalize(w_CD, dim=1)[LABELS]
    aside_BD = torch.randn(B, D, dtype=torch.float64, generator=generator)
    aside_BD = F.normalize(aside_BD - (aside_BD * own_BD).sum(1, keepdim=True) * own_BD, dim=1)
    theta_B1 = torch.linspace(0.02, math.pi - 0.02, B, dtype=torch.float64)[:, None]
    length_B1 = torch.logspace(-1, 1, B, dtype=torch.float64)[torch.randperm(B, generator=generator)][:, None]
    return (length_B1 * (theta_B1.cos() * own_BD + theta_B1.sin() * aside_BD)).numpy(), w_CD.numpy()


def evaluate(
    term: Term, x: torch.Tensor, w: np.ndarray, *, autocast: bool = False, weight: float = 1e4
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """The term within an objective, as in training: its value, and its gradients in float64.

    They are the difference to the softmax alone, in which little is lost with a large weight.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    head = MarginHead(num_classes=C, embedding_dim=D).to(dtype)
    with torch.no_grad():
        head.centres.weight.copy_(torch.from_numpy(w))
    inputs = (x.clone().requires_grad_(), head.centres.weight)

    def gradients(terms: dict[str, Term]) -> tuple[dict[str, torch.Tensor], list[np.ndarray]]:
        objective = Objective(head=head, terms=terms).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = objective(inputs[0], torch.tensor(LABELS), IMAGES)
        return output.logs, [g.double().numpy() for g in torch.autograd.grad(output.loss, inputs)]

    term.weight = weight
    logs, total = gradients({"it": term})
    _, softmax = gradients({})
    return logs["term/it"], *((both - alone) / weight for both, alone in zip(total, softmax, strict=True))


@pytest.mark.parametrize("case", FORMULAS)
@pytest.mark.parametrize(
    "dtype, value_rtol, gradient_rtol",
    [(torch.float64, 1e-12, 1e-9), (torch.float32, 2e-6, 1e-4)],
    ids=["fp64", "fp32"],
)
def test_value_and_gradients_match_the_formula(case, dtype, value_rtol, gradient_rtol):
    formula, name, changes = FORMULAS[case]
    x, w = points()
    x, w = (torch.from_numpy(array).to(dtype).double().numpy() for array in (x, w))  # the same rounded inputs
    value, *found = evaluate(build_term(name, **changes), torch.from_numpy(x).to(dtype), w)
    expected_value, *expected = reference(formula, x, w)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(expected_value, rel=value_rtol)
    for mine, theirs in zip(found, expected, strict=True):
        scale = np.linalg.norm(theirs) or 1.0
        assert np.linalg.norm(mine - theirs) < gradient_rtol * scale


@pytest.mark.parametrize("case", FORMULAS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_lose_only_their_own_rounding(case, dtype):
    formula, name, changes = FORMULAS[case]
    x, w = points()
    x = torch.from_numpy(x).to(dtype)
    value, *_ = evaluate(build_term(name, **changes), x, w.astype(np.float32), autocast=True)
    expected = formula(x.double().numpy().astype(complex), w.astype(np.float32).astype(complex)).real
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_finite_on_and_opposite_the_centres_and_where_all_are_one(name, sign, dtype):
    w = np.ones((C, D))
    w[0] = np.eye(D)[0]
    x = torch.from_numpy(sign * w[LABELS]).to(dtype)
    is_half = dtype.itemsize == 2
    if not is_half:
        x[1] = 0  # its gradient is finite, but beyond what fp16 holds
    value, *gradients = evaluate(build_term(name), x, w, autocast=is_half, weight=1.0)
    assert value.isfinite() and all(np.isfinite(gradient).all() for gradient in gradients)
