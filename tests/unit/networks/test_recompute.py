"""Activation checkpointing changes nothing but memory and time."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.iresnet import IResNet
from facerec.networks.library import TorchvisionBackbone
from facerec.networks.mobilefacenet import MobileFaceNet
from facerec.networks.neck import BNDropoutFCBN
from facerec.networks.recompute import run_pieces
from facerec.networks.vit import VisionTransformer

SPEC = InputSpec(height_px=32, width_px=32)
SIZE = {"height_px": 32, "width_px": 32}
BACKBONES = {
    "iresnet": partial(IResNet, depth=18, width_multiplier=0.25),
    "mobilefacenet": MobileFaceNet,
    "vit": partial(VisionTransformer, token_dim=16, depth=4, drop_path=0.5, mask_ratio=0.25, **SIZE),
    "torchvision": partial(TorchvisionBackbone, model="resnet18", **SIZE),
}


def network(name: str, *, recompute: bool) -> EmbeddingNet:
    torch.manual_seed(0)
    backbone = BACKBONES[name](checkpoint_activations=recompute)
    return join(backbone=backbone, neck=partial(BNDropoutFCBN, embedding_dim=8, dropout=0.3), input_spec=SPEC)


@pytest.mark.parametrize(("name", "precision"), [*((name, None) for name in BACKBONES), ("iresnet", torch.bfloat16)])
def test_outputs_gradients_statistics_and_random_numbers_are_those_without(name, precision):
    """Two micro-batches as the trainer runs them: the second one updates no running statistics, in its forward pass."""
    results = []
    for recompute in (False, True):
        net = network(name, recompute=recompute).train()
        norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
        torch.manual_seed(1)
        images, outputs = torch.randn(2, 4, 3, 32, 32), []
        for micro_index in range(2):
            for norm in norms:
                norm.track_running_stats = micro_index == 0
            with torch.autocast("cpu", precision, enabled=precision is not None):
                outputs.append(net(images[micro_index]))
            for norm in norms:
                norm.track_running_stats = True
            outputs[-1].square().sum().backward()
        gradients = {key: p.grad for key, p in net.named_parameters() if p.requires_grad}
        assert all(norm.track_running_stats for norm in norms)
        results.append({**net.state_dict(), **gradients, "output": torch.cat(outputs), "next": torch.rand(3)})
    plain, recomputed = results
    assert plain.keys() == recomputed.keys()
    assert [key for key in plain if not torch.equal(plain[key], recomputed[key])] == []
    if name != "vit":
        assert plain["bn2.num_batches_tracked"] == 1


@pytest.mark.parametrize("name", BACKBONES)
def test_what_lies_between_the_pieces_is_computed_twice(name):
    plain, recomputed = (runs_of_layers(network(name, recompute=recompute)) for recompute in (False, True))
    assert recomputed["train"] > 1.8 * plain["train"]
    assert recomputed["evaluation"] == plain["evaluation"]


def runs_of_layers(net: EmbeddingNet) -> dict[str, int]:
    """How often any convolution or linear layer of the backbone runs."""
    runs = {"train": 0, "evaluation": 0}
    for layer in net.backbone.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_pre_hook(lambda *_: runs.update({phase: runs[phase] + 1}))
    phase = "train"
    net(torch.randn(4, 3, 32, 32)).sum().backward()
    phase = "evaluation"
    with torch.no_grad():
        net(torch.randn(4, 3, 32, 32))
    return runs


def test_graph_that_is_kept_is_recomputed_every_time():
    torch.manual_seed(0)
    piece = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    loss = run_pieces([piece], torch.randn(5, 3), recompute=True).square().sum()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in piece.parameters()]
    mean = piece[1].running_mean.clone()
    loss.backward()
    assert all(torch.equal(p.grad, 2 * grad) for p, grad in zip(piece.parameters(), once, strict=True))
    assert torch.equal(piece[1].running_mean, mean) and piece[1].num_batches_tracked == 1


def test_compiled_network_updates_its_statistics_once():
    states = []
    for compiled in (False, True):
        torch.manual_seed(0)
        pieces = nn.ModuleList([nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))])
        run = torch.compile(run_pieces, backend="aot_eager") if compiled else run_pieces
        run(pieces, torch.randn(5, 3), recompute=True).square().sum().backward()
        states.append({**pieces.state_dict(), "gradient": pieces[0][0].weight.grad})
    assert states[1]["0.1.num_batches_tracked"] == 1
    torch.testing.assert_close(states[1], states[0])


def test_single_layer_that_works_in_place_is_left_alone():
    torch.manual_seed(0)
    x = torch.randn(50, 3)
    pieces = [nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True))]
    gradients = []
    for recompute in (False, True):
        (gradient,) = torch.autograd.grad(run_pieces(pieces, x, recompute=recompute).sum(), pieces[0].weight)
        gradients.append(gradient)
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


def test_error_in_the_repetition_leaves_the_statistics_in_place():
    piece = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    loss = run_pieces([piece], torch.randn(5, 3), recompute=True).sum()
    statistics = piece[0].running_mean
    piece[0].register_forward_hook(lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        loss.backward()
    assert piece[0].running_mean is statistics
