"""The heads as modules: configs, errors, the margin ramp, state and dtypes."""

import math

import pytest
import torch

from facerec.cli.config.compose import compose
from facerec.core.errors import ConfigError, DataError
from facerec.heads.combined import MarginHead
from facerec.heads.initial_loss import initial_loss
from facerec.heads.softmax import SoftmaxHead

PAPER = {
    "norm_softmax": (1.0, 0.0, 0.0),
    "sphereface": (1.35, 0.0, 0.0),
    "arcface": (1.0, 0.5, 0.0),
    "cosface": (1.0, 0.0, 0.35),
    "cm1": (1.0, 0.3, 0.2),
    "cm2": (0.9, 0.4, 0.15),
}


@pytest.mark.parametrize("name", PAPER)
def test_presets_have_the_margins_of_the_paper(name):
    config = compose("train", [f"head={name}"]).head
    assert (config.m1, config.m2, config.m3) == PAPER[name]
    assert (config.scale, config.beyond_pi) == (64.0, "monotone")


@pytest.mark.parametrize("head_class", [MarginHead, SoftmaxHead])
@pytest.mark.parametrize("label", [-1, 10, 4000])
def test_a_label_out_of_range_is_named(head_class, label):
    head = head_class(num_classes=10, embedding_dim=4)
    with pytest.raises(DataError, match=f"label {label} .*num_classes is 10"):
        head(torch.ones(3, 4), torch.tensor([0, label, 9]))


def test_embeddings_of_another_size_name_both_sizes():
    with pytest.raises(ConfigError, match=r"head.embedding_dim is 512.*\(3, 256\)"):
        MarginHead(num_classes=10)(torch.ones(3, 256), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("scale", [0.0, -64.0, math.inf, math.nan])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ConfigError, match=r"head\.scale"):
        MarginHead(num_classes=10, scale=scale)


def test_number_of_classes_must_be_known():
    with pytest.raises(ConfigError, match=r"head\.num_classes is null"):
        MarginHead(num_classes=None)


def test_linear_fallback_is_refused_where_it_would_jump_up():
    MarginHead(num_classes=10, embedding_dim=4, m2=0.5, beyond_pi="linear")
    MarginHead(num_classes=10, embedding_dim=4, m1=0.9, m2=0.4, m3=0.15, beyond_pi="linear")
    with pytest.raises(ConfigError, match=r"head\.beyond_pi is 'linear' .* jump up by 0.314 at 133 degrees"):
        MarginHead(num_classes=10, embedding_dim=4, m1=1.35, beyond_pi="linear")


def test_margin_fraction_scales_the_target_logit():
    head = MarginHead(num_classes=2, embedding_dim=2, m2=0.4, m3=0.1, scale=8.0)
    with torch.no_grad():
        head.centres.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    theta = 0.7
    emb_BD = torch.tensor([[math.cos(theta), math.sin(theta)]])
    for fraction in (0.0, 0.25, 1.0, 0.5):  # each from the full margin, not from the one before
        head.set_margin_fraction(fraction)
        gap = 8 * math.sin(theta) - 8 * (math.cos(theta + 0.4 * fraction) - 0.1 * fraction)
        loss = head(emb_BD, torch.tensor([0])).loss.item()
        assert loss == pytest.approx(math.log1p(math.exp(gap)), rel=1e-5)


@pytest.mark.parametrize("head_class", [MarginHead, SoftmaxHead])
@pytest.mark.parametrize("fraction", [-0.1, 1.5, math.nan])
def test_margin_fraction_out_of_range_is_refused(head_class, fraction):
    with pytest.raises(ConfigError, match="margin fraction"):
        head_class(num_classes=10, embedding_dim=4).set_margin_fraction(fraction)


def test_expected_loss_follows_the_margin_in_use():
    head = MarginHead(num_classes=10_572, m2=0.5)
    assert initial_loss(head) == pytest.approx(64 * math.sin(0.5) + math.log(10_572) + 4, abs=0.1)
    head.set_margin_fraction(0.0)
    assert initial_loss(head) == pytest.approx(math.log(10_572) + 4, abs=0.1)
    assert initial_loss(SoftmaxHead(num_classes=10_572)) == pytest.approx(math.log(10_572), abs=0.03)


def test_loss_is_the_mean_of_the_sample_losses():
    head = MarginHead(num_classes=10, embedding_dim=4, m2=0.5)
    output = head(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5))
    assert output.loss.requires_grad and output.loss.shape == ()
    assert output.target_cos_B.requires_grad and not output.sample_losses_B.requires_grad
    assert output.sample_losses_B.shape == output.target_cos_B.shape == (5,)
    assert output.loss.item() == pytest.approx(output.sample_losses_B.mean().item())


def test_state_holds_the_parameters_and_nothing_else():
    assert list(MarginHead(num_classes=3, embedding_dim=2).state_dict()) == ["centres.weight"]
    assert list(SoftmaxHead(num_classes=3, embedding_dim=2).state_dict()) == ["centres.weight", "centres.bias"]
