"""What heads learn besides by gradient: read all through a step, moved once at its end by the whole global batch."""

import math

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.heads.a_softmax import ASoftmaxHead
from facerec.heads.adacos import AdaCosHead
from facerec.heads.adaface import AdaFaceHead
from facerec.heads.combined import MarginHead
from facerec.heads.curricularface import CurricularFaceHead
from facerec.heads.elasticface import ElasticFaceHead
from facerec.heads.head import Head
from facerec.heads.magface import MagFaceHead
from facerec.heads.mv_softmax import MVSoftmaxHead
from facerec.heads.softmax import SoftmaxHead

C, D = 20, 8
GENERATOR = torch.Generator().manual_seed(0)
EMB_BD = 10 * torch.randn(32, D, generator=GENERATOR)
LABELS_B = torch.randint(C, (32,), generator=GENERATOR)


def train_step(head: Head, *, step: int = 0, num_micro_batches: int = 1) -> None:
    head.start_step(step, labels_of_step=LABELS_B)
    for emb_BD, labels_B in zip(EMB_BD.chunk(num_micro_batches), LABELS_B.chunk(num_micro_batches), strict=True):
        head(emb_BD, labels_B)
    head.end_step()


def target_cosines(head: Head) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(EMB_BD, head.centres.weight.detach()[LABELS_B])


def test_curricularface_moves_t_by_the_mean_target_cosine():
    head = CurricularFaceHead(num_classes=C, embedding_dim=D, momentum=0.9)
    train_step(head)
    assert head.t.item() == pytest.approx(0.1 * target_cosines(head).mean().item(), rel=1e-5)
    train_step(head)
    assert head.t.item() == pytest.approx(0.19 * target_cosines(head).mean().item(), rel=1e-5)


def test_adaface_moves_mean_and_unbiased_deviation_of_the_clipped_lengths():
    head = AdaFaceHead(num_classes=C, embedding_dim=D, momentum=0.75)
    lengths = EMB_BD.norm(dim=1).clamp(max=100).double().numpy()
    train_step(head)
    assert head.norm_mean.item() == pytest.approx(0.75 * 20 + 0.25 * lengths.mean(), rel=1e-6)
    assert head.norm_std.item() == pytest.approx(0.75 * 100 + 0.25 * lengths.std(ddof=1), rel=1e-6)


def test_adacos_sets_its_scale_from_the_median_angle_and_the_mean_of_the_negatives():
    head = AdaCosHead(num_classes=C, embedding_dim=D)
    start = math.sqrt(2) * math.log(C - 1)
    assert head.adaptive_scale.item() == pytest.approx(start)
    cos_BC = torch.nn.functional.normalize(EMB_BD) @ torch.nn.functional.normalize(head.centres.weight.detach()).T
    negatives_BC = (start * cos_BC).exp().scatter(1, LABELS_B[:, None], 0.0)
    angle = target_cosines(head).acos().median().item()
    train_step(head)
    expected = math.log(negatives_BC.sum(1).mean().item()) / math.cos(min(math.pi / 4, angle))
    assert head.adaptive_scale.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head_class", [CurricularFaceHead, AdaFaceHead, AdaCosHead])
def test_state_moves_once_a_step_whatever_the_micro_batches(head_class):
    states = []
    for num_micro_batches in (1, 4):
        head = head_class(num_classes=C, embedding_dim=D)
        head.start_step(0, labels_of_step=LABELS_B)
        before = {name: value.clone() for name, value in head.named_buffers()}
        for part in range(num_micro_batches):
            head(EMB_BD.chunk(num_micro_batches)[part], LABELS_B.chunk(num_micro_batches)[part])
            assert all(torch.equal(value, before[name]) for name, value in head.named_buffers())
        head.end_step()
        states.append(dict(head.named_buffers()))
        assert any(not torch.equal(states[-1][name], before[name]) for name in before)
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("head_class", [CurricularFaceHead, AdaFaceHead, AdaCosHead])
def test_state_is_saved_and_does_not_move_in_evaluation(head_class):
    head = head_class(num_classes=C, embedding_dim=D)
    train_step(head)
    copy = head_class(num_classes=C, embedding_dim=D)
    copy.load_state_dict(head.state_dict())
    copy.eval()
    train_step(copy)
    for (name, value), (_, copied) in zip(head.named_buffers(), copy.named_buffers(), strict=True):
        assert torch.equal(value, copied), name


def test_a_softmax_anneals_lambda_with_the_step():
    head = ASoftmaxHead(num_classes=C, embedding_dim=D)
    for step, expected in ((0, 1500), (10, 750), (1000, 1500 / 101), (100_000, 5)):
        head.start_step(step, labels_of_step=LABELS_B)
        assert head.blend == pytest.approx(expected)


def test_elastic_margins_vary_in_training_only_and_the_larger_go_to_the_smaller_angles_with_plus():
    cos_B, ones_B = torch.linspace(-0.9, 0.9, 400), torch.ones(400)
    head = ElasticFaceHead(num_classes=C, embedding_dim=D, kind="cos", m=0.35, std=0.05, plus=True)
    torch.manual_seed(0)
    margins_B = cos_B - head.target(cos_B, ones_B)
    assert margins_B.mean().item() == pytest.approx(0.35, abs=0.01)
    assert margins_B.std().item() == pytest.approx(0.05, abs=0.005)
    assert (margins_B.diff() >= -1e-6).all()  # the cosines rise, so the angles fall
    head.eval()
    torch.testing.assert_close(cos_B - head.target(cos_B, ones_B), torch.full((400,), 0.35))


def test_learned_scale_moves_by_its_gradient():
    head = MarginHead(num_classes=C, embedding_dim=D, m2=0.3, scale=8.0, learn_scale=True)
    assert head.learned_scale is not None

    def loss(scale: float) -> float:
        fixed = MarginHead(num_classes=C, embedding_dim=D, m2=0.3, scale=scale).double()
        return fixed(EMB_BD.double(), LABELS_B).loss.item()

    head(EMB_BD, LABELS_B).loss.backward()
    assert head.learned_scale.grad.item() == pytest.approx((loss(8.001) - loss(7.999)) / 0.002, rel=1e-4)


@pytest.mark.parametrize(
    "head_class, arguments, key",
    [
        (ASoftmaxHead, {"m": 0.5}, "head.m "),
        (ASoftmaxHead, {"lambda_decay": -1.0}, "head.lambda_decay"),
        (CurricularFaceHead, {"momentum": 1.5}, "head.momentum"),
        (MVSoftmaxHead, {"t": 0.9}, "head.t "),
        (AdaFaceHead, {"h": 0.0}, "head.h "),
        (AdaFaceHead, {"m": 7.0}, "head.m2"),
        (MagFaceHead, {"l_a": 200.0}, "head.l_a"),
        (MagFaceHead, {"lambda_g": -1.0}, "head.lambda_g"),
        (ElasticFaceHead, {"std": -0.1}, "head.std"),
        (MarginHead, {"label_smoothing": 1.0}, "head.label_smoothing"),
        (MarginHead, {"num_sub_centres": 0}, "head.num_sub_centres"),
        (MarginHead, {"filter_threshold": 1.5}, "head.filter_threshold"),
        (MarginHead, {"classes_per_chunk": 0}, "head.classes_per_chunk"),
        (MarginHead, {"label_smoothing": 0.1, "inter_class_filter": "drop"}, "inter_class_filter=drop"),
    ],
)
def test_bad_arguments_are_refused_by_key(head_class, arguments, key):
    with pytest.raises(ConfigError, match=key):
        head_class(num_classes=C, embedding_dim=D, **arguments)


def test_heads_whose_scale_is_not_a_number_take_none():
    for head_class in (SoftmaxHead, ASoftmaxHead, AdaCosHead):
        with pytest.raises(TypeError, match="scale"):
            head_class(num_classes=C, embedding_dim=D, scale=30.0)
