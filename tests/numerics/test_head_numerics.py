"""Loss and gradients of every head in configs/head against slow float64 references, and at hard places.

Letters: B samples, C classes, D embedding dimensions.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facerec.heads.chunked import chunked
from facerec.heads.combined import MarginHead
from facerec.heads.engines import EngineInput, dense
from facerec.heads.head import Head
from facerec.heads.initial_loss import initial_loss
from tests.numerics.formulas import FORMULAS, Case, sample_losses

B, C, D = 60, 11, 8
ENGINES = {"dense": dense, "chunked": lambda given: chunked(given, classes_per_chunk=2)}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sub_centres": {"num_sub_centres": 3},
    "drop": {"inter_class_filter": "drop", "filter_threshold": 0.3},
    "zero": {"inter_class_filter": "zero", "filter_threshold": 0.3},
    "smoothing": {"label_smoothing": 0.1},
}


def spread_embeddings(weight_RD: torch.Tensor, rows_B: torch.Tensor) -> torch.Tensor:
    """Embeddings at angles from 0 to pi to their centres, both ends left out, with lengths from 1 to 150."""
    generator = torch.Generator().manual_seed(1)
    centre_BD = F.normalize(weight_RD.detach().double()[rows_B], dim=1)
    aside_BD = torch.randn(len(rows_B), weight_RD.shape[1], dtype=torch.float64, generator=generator)
    aside_BD = F.normalize(aside_BD - (aside_BD * centre_BD).sum(1, keepdim=True) * centre_BD, dim=1)
    theta_B1 = torch.linspace(0.02, math.pi - 0.02, len(rows_B), dtype=torch.float64)[:, None]
    length_B1 = 10 ** (2.2 * torch.rand(len(rows_B), 1, dtype=torch.float64, generator=generator))
    return length_B1 * (theta_B1.cos() * centre_BD + theta_B1.sin() * aside_BD)


def head_and_inputs(build, config, *, dtype: torch.dtype = torch.float32) -> tuple[Head, torch.Tensor, torch.Tensor]:
    """A head in the middle of its training, embeddings and labels."""
    head = build(config, num_classes=C, embedding_dim=D, init_std=1.0).to(dtype)
    labels_B = torch.arange(B) % C
    head.start_step(1000, labels_of_step=labels_B)
    learned = {"t": 0.3, "norm_mean": 30.0, "norm_std": 25.0, "adaptive_scale": 9.0}
    for name, buffer in head.named_buffers():
        buffer.fill_(learned[name])
    if head.centres.bias is not None:
        torch.nn.init.normal_(head.centres.bias, generator=torch.Generator().manual_seed(2))
    return head, spread_embeddings(head.centres.weight, labels_B * head.centres.num_sub_centres), labels_B


def formula(head: Head, config, emb_BD: torch.Tensor, labels_B: torch.Tensor) -> Case:
    """The case for `sample_losses`, in float64, with what the head has learned."""
    weight_RD, bias_C = head.centres.weight, head.centres.bias
    torch.manual_seed(5)
    state = {
        "lambda": max(5, 1500 / (1 + 0.1 * 1000)),
        "t": 0.3,
        "norm_mean": 30.0,
        "norm_std": 25.0,
        "scale": 9.0,
        "drawn": torch.randn(len(emb_BD)).double().numpy(),
    }
    return Case(
        config=config,
        emb_BD=emb_BD.detach().double().numpy(),
        weight_RD=weight_RD.detach().double().numpy(),
        bias_C=None if bias_C is None else bias_C.detach().double().numpy(),
        labels_B=labels_B.numpy(),
        state=state,
    )


def run(head: Head, emb_BD: torch.Tensor, labels_B: torch.Tensor):
    """The head's output; draws the margins that `formula` names."""
    torch.manual_seed(5)
    return head(emb_BD, labels_B)


def complex_step_gradients(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """d mean loss / d embeddings and centres, each entry by a complex step, which subtracts nothing."""
    step, gradients = 1e-30, []
    for name in ("emb_BD", "weight_RD"):
        values, gradient = getattr(case, name), np.empty_like(getattr(case, name))
        for index in np.ndindex(values.shape):
            moved = values.astype(np.complex128)
            moved[index] += 1j * step
            setattr(case, name, moved)
            gradient[index] = sample_losses(case).mean().imag / step
        setattr(case, name, values)
        gradients.append(gradient)
    return gradients[0], gradients[1]


def algorithm_1(emb_BD, weight_CD, labels_B, *, m1, m2, m3, scale, **_) -> torch.Tensor:
    """Algorithm 1 of arXiv 1801.07698 in float64, with the combined margin and its monotone extension."""
    cos_BC = F.normalize(emb_BD, dim=1) @ F.normalize(weight_CD, dim=1).T
    original_B = cos_BC.gather(1, labels_B[:, None])[:, 0]
    u_B = m1 * original_B.acos() + m2
    k_B = torch.floor(u_B.detach() / math.pi)
    marginal_B = (-1.0) ** k_B * u_B.cos() - 2 * k_B - m3
    one_hot_BC = F.one_hot(labels_B, weight_CD.shape[0]).to(cos_BC.dtype)
    logits_BC = scale * (cos_BC + one_hot_BC * (marginal_B - original_B)[:, None])
    return F.cross_entropy(logits_BC, labels_B)


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return [gradient.double() for gradient in torch.autograd.grad(loss, inputs)]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_every_head_has_a_formula(head_config):
    assert head_config["_target_"].rpartition(".")[2] in FORMULAS, "write its formula into tests/numerics/formulas.py"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", OPTIONS)
def test_losses_match_the_formula(head_config, build, options, engine):
    config = head_config | OPTIONS[options]
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
        head, emb_BD, labels_B = head_and_inputs(
            build, config | {"engine": engine, "classes_per_chunk": 4}, dtype=dtype
        )
        emb_BD = emb_BD.to(dtype)
        output = run(head, emb_BD, labels_B)
        expected_B = sample_losses(formula(head, config, emb_BD, labels_B))
        assert output.loss.dtype == dtype
        assert output.loss.item() == pytest.approx(expected_B.mean(), rel=tolerance)
        torch.testing.assert_close(
            output.sample_losses_B.double(), torch.from_numpy(expected_B), rtol=tolerance, atol=100 * tolerance
        )


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_match_complex_steps_of_the_formula(head_config, build, options):
    config = head_config | OPTIONS[options]
    few = slice(3, None, 4)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        expected = None
        for engine in ENGINES:
            head, emb_BD, labels_B = head_and_inputs(
                build, config | {"engine": engine, "classes_per_chunk": 4}, dtype=dtype
            )
            emb_BD = emb_BD[few].to(dtype).requires_grad_()
            expected = expected or complex_step_gradients(formula(head, config, emb_BD, labels_B[few]))
            found = gradients(run(head, emb_BD, labels_B[few]).loss, emb_BD, head.centres.weight)
            for mine, theirs in zip(found, expected, strict=True):
                assert relative_error(mine, torch.from_numpy(theirs)) < tolerance, (engine, dtype)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 5e-5)], ids=["fp64", "fp32"])
def test_margin_heads_match_algorithm_1(margin_config, build, dtype, tolerance):
    head, emb_BD, labels_B = head_and_inputs(build, margin_config, dtype=dtype)
    emb_BD = emb_BD.to(dtype).requires_grad_()
    loss = head(emb_BD, labels_B).loss
    assert loss.dtype == dtype

    reference_emb_BD = emb_BD.detach().double().requires_grad_()
    reference_weight_CD = head.centres.weight.detach().double().requires_grad_()
    expected = algorithm_1(reference_emb_BD, reference_weight_CD, labels_B, **margin_config)

    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    found = gradients(loss, emb_BD, head.centres.weight)
    for mine, theirs in zip(found, gradients(expected, reference_emb_BD, reference_weight_CD), strict=True):
        assert relative_error(mine, theirs) < tolerance


def test_softmax_head_matches_a_linear_layer_and_cross_entropy(build):
    head, emb_BD, labels_B = head_and_inputs(
        build, {"_target_": "facerec.heads.softmax.SoftmaxHead", "seed": 0}, dtype=torch.float64
    )
    torch.nn.init.normal_(head.centres.bias, generator=torch.Generator().manual_seed(2))
    emb_BD.requires_grad_()
    weight_CD, bias_C = head.centres.weight, head.centres.bias
    expected = F.cross_entropy(F.linear(emb_BD, weight_CD, bias_C), labels_B)
    output = head(emb_BD, labels_B)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-13)
    inputs = (emb_BD, weight_CD, bias_C)
    found = torch.autograd.grad(output.loss, inputs, retain_graph=True)
    for mine, theirs in zip(found, gradients(expected, *inputs), strict=True):
        assert relative_error(mine, theirs) < 1e-12
    cos_B = F.cosine_similarity(emb_BD, weight_CD[labels_B])
    torch.testing.assert_close(output.target_cos_B, cos_B, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_embeddings_lose_only_their_own_rounding(head_config, build, dtype, tolerance, autocast):
    head, emb_BD, labels_B = head_and_inputs(build, head_config)
    emb_BD = emb_BD.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        output = run(head, emb_BD, labels_B)
    assert output.loss.dtype == output.target_cos_B.dtype == torch.float32

    exact, _, _ = head_and_inputs(build, head_config, dtype=torch.float64)
    exact_emb_BD = emb_BD.detach().double().requires_grad_()
    expected = run(exact, exact_emb_BD, labels_B).loss
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    emb_gradient_BD, weight_gradient_CD = gradients(output.loss, emb_BD, head.centres.weight)
    expected_emb_BD, expected_weight_CD = gradients(expected, exact_emb_BD, exact.centres.weight)
    assert relative_error(emb_gradient_BD, expected_emb_BD) < tolerance  # stored in half precision
    assert relative_error(weight_gradient_CD, expected_weight_CD) < 5e-5  # eps times the scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_finite_on_and_opposite_the_centre(head_config, build, dtype, sign):
    head = build(head_config, num_classes=C, embedding_dim=D)
    if dtype == torch.float64:
        head = head.double()
    with torch.no_grad():
        head.centres.weight[0].copy_(torch.eye(D)[0])  # cos is +-1 to the last bit for label 0, rounded for the others
        if (num_sub := head.centres.num_sub_centres) > 1:  # the opposite of one is the opposite of all
            head.centres.weight.copy_(head.centres.weight[::num_sub].repeat_interleave(num_sub, dim=0))
    emb_BD = (sign * head.centres.weight.detach()[::num_sub]).to(dtype).requires_grad_()
    output = head(emb_BD, torch.arange(C))
    emb_gradient_BD, weight_gradient_CD = gradients(output.loss, emb_BD, head.centres.weight)
    assert output.target_cos_B[0] == sign
    torch.testing.assert_close(output.target_cos_B.float(), torch.full((C,), sign), rtol=0, atol=1e-4)
    for tensor in (output.loss, output.sample_losses_B, emb_gradient_BD, weight_gradient_CD):
        assert tensor.isfinite().all()


def test_target_falls_with_the_angle(head_config, build):
    head = build(head_config, num_classes=C, embedding_dim=D).double().eval()
    theta = torch.linspace(0, math.pi, 20001, dtype=torch.float64)
    steps = head.target(theta.cos(), torch.full_like(theta, 40.0)).detach().diff()
    if "mv" in head_config["_target_"]:  # the papers have no margin far from the centre: one step up
        assert (steps > 0).sum() == 1
    elif head_config.get("beyond_pi") == "clip":  # flat at both ends
        assert (steps <= 0).all() and (steps < 0).float().mean() > 0.7
    else:
        assert (steps < 0).all()


def axis_case(engine: str, cos_target: float, cos_negatives: list[float], *, scale: float = 64.0):
    """One sample on the first axis, centres at the given cosines to it, no margin. Returns loss and d loss / d cos."""
    cos_C = torch.tensor([cos_target, *cos_negatives], dtype=torch.float32)
    weight_CD = torch.stack([cos_C, (1 - cos_C**2).clamp(min=0).sqrt()], dim=1).requires_grad_()
    output = ENGINES[engine](
        EngineInput(
            emb_BD=torch.tensor([[1.0, 0.0]]),
            weight_RD=weight_CD,
            labels_B=torch.tensor([0]),
            scale=scale,
            normalise=False,
        )
    )
    gap = output.negatives_lse_B - scale * output.target_cos_B
    loss = torch.logaddexp(gap, torch.zeros_like(gap)).sum()
    (gradient_CD,) = torch.autograd.grad(loss, weight_CD)
    return loss.item(), gradient_CD[:, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_target_forty_nats_above_the_rest_keeps_its_small_loss(engine):
    loss, gradient_C = axis_case(engine, 0.5, [-0.125, -0.125])
    expected = math.log1p(2 * math.exp(-40))  # 8.5e-18, lost in 32 + log(1 + ...) in fp32
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradient_C[0].item() == pytest.approx(-64 * expected, rel=1e-5)
    assert gradient_C[1].item() == pytest.approx(32 * expected, rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_target_forty_nats_below_the_rest(engine):
    loss, gradient_C = axis_case(engine, -0.125, [0.5, 0.5])
    assert loss == pytest.approx(40 + math.log(2), rel=1e-6)
    torch.testing.assert_close(gradient_C, torch.tensor([-64.0, 32.0, 32.0]))


@pytest.mark.parametrize("engine", ENGINES)
def test_three_classes_all_far_away(engine):
    loss, gradient_C = axis_case(engine, -1.0, [-1.0, -1.0])
    assert loss == pytest.approx(math.log(3), rel=1e-5)  # exp(-64 - 64), a shift by the scale, is 0 in fp32
    torch.testing.assert_close(gradient_C, torch.tensor([-128 / 3, 64 / 3, 64 / 3]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("engine", ["dense", "chunked"])
def test_all_negatives_dropped_is_no_loss_and_no_gradient(engine):
    head = MarginHead(
        num_classes=3, embedding_dim=4, m2=0.5, engine=engine, inter_class_filter="drop", filter_threshold=-1.0
    )
    emb_BD = torch.ones(2, 4, requires_grad=True)
    output = head(emb_BD, torch.tensor([0, 2]))
    assert output.loss.item() == 0
    for gradient in gradients(output.loss, emb_BD, head.centres.weight):
        assert (gradient == 0).all()


@pytest.mark.parametrize("engine", ["dense", "chunked"])
def test_arcface_among_a_million_classes_at_cosine_one_half(engine):
    head = MarginHead(num_classes=1_000_000, embedding_dim=2, m2=0.5, engine=engine)
    with torch.no_grad():
        head.centres.weight[:] = torch.tensor([1 / 16, math.sqrt(1 - 1 / 256)])  # s cos = 4 = s^2 / 2d, d = 512
        head.centres.weight[7] = torch.tensor([0.5, math.sqrt(0.75)])
    loss = head(torch.tensor([[1.0, 0.0]]), torch.tensor([7])).loss
    assert loss.item() == pytest.approx(16.30, abs=0.01)
    (gradient_CD,) = torch.autograd.grad(loss, head.centres.weight)
    slope = 64 * math.sin(math.pi / 3 + 0.5) / math.sin(math.pi / 3)
    # the part along the centre falls away
    assert gradient_CD[7, 0].item() == pytest.approx(-slope * (1 - 0.25), rel=1e-4)


def test_target_cosine_does_not_depend_on_the_batch(head_config, build):
    head, emb_BD, labels_B = head_and_inputs(build, head_config)
    emb_BD = emb_BD.float()
    whole_B = head(emb_BD, labels_B).target_cos_B
    single_B = torch.cat([head(emb_BD[i : i + 1], labels_B[i : i + 1]).target_cos_B for i in range(B)])
    assert torch.equal(whole_B, single_B)


def test_expected_loss_of_arcface_on_ms1mv2(build):
    config = {"_target_": "facerec.heads.combined.MarginHead", "m2": 0.5, "scale": 64.0}
    head = build(config, num_classes=85_742, embedding_dim=512)
    assert initial_loss(head) == pytest.approx(64 * math.sin(0.5) + math.log(85_742) + 4, abs=0.1)
    assert initial_loss(head) == pytest.approx(46.0, abs=0.05)


def test_expected_loss_is_what_an_untrained_head_gives(head_config, build):
    head = build(head_config, num_classes=8192, embedding_dim=512)
    generator = torch.Generator().manual_seed(3)
    emb_BD = torch.randn(512, 512, generator=generator)
    labels_B = torch.randint(8192, (512,), generator=generator)
    for fraction in (1.0, 0.5, 0.0):
        head.set_margin_fraction(fraction)
        with torch.no_grad():
            measured = head(emb_BD, labels_B).loss.item()
        # the standard error of the mean of s * cos over the samples is 64 / sqrt(512) / sqrt(512) = 0.125
        assert measured == pytest.approx(initial_loss(head), abs=0.5)
