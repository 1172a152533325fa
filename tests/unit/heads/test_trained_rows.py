"""Heads whose centres a row optimizer moves: as torch.optim would where all take part, and only the drawn ones else."""

from functools import partial

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.heads.combined import MarginHead
from facerec.heads.head import Head
from facerec.heads.row_optimizer import RowSGD
from facerec.heads.sampling import drawn_classes
from tests.numerics.conftest import HEAD_CONFIGS, build, read_head_config

C, D, B = 60, 8, 24
SETTINGS = {"momentum": 0.9, "weight_decay": 1e-2}
LR = 0.05


def batches(num_steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (5 * torch.randn(B, D, generator=generator, dtype=torch.float64), torch.randint(C, (B,), generator=generator))
        for _ in range(num_steps)
    ]


def train(head: Head, *, num_steps: int = 3, num_micro_batches: int = 1, grad_scale: float = 1.0) -> list[float]:
    """Losses of some steps; torch.optim moves what the row optimizer does not."""
    moved = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(moved, lr=LR, **SETTINGS) if moved else None
    losses = []
    for step, (emb_BD, labels_B) in enumerate(batches(num_steps)):
        head.start_step(step, labels_of_step=labels_B, lr=LR)
        torch.manual_seed(step)
        loss = 0.0
        for emb, labels in zip(emb_BD.chunk(num_micro_batches), labels_B.chunk(num_micro_batches), strict=True):
            part = head(emb, labels).loss / num_micro_batches
            (part * grad_scale).backward()
            loss += part.item()
        losses.append(loss)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        head.end_step(grad_scale=grad_scale)
    return losses


def make(config, **options) -> Head:
    return build(config, num_classes=C, embedding_dim=D, init_std=1.0, classes_per_chunk=16, **options).double()


@pytest.mark.parametrize("path", HEAD_CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
def test_all_rows_move_as_under_torch_optim(path, fused):
    config = read_head_config(path)
    reference, head = make(config, engine="chunked"), make(config, engine="chunked")
    head.train_rows(partial(RowSGD, **SETTINGS), fused=fused)
    assert train(head) == pytest.approx(train(reference), rel=1e-12)
    torch.testing.assert_close(head.centres.weight, reference.centres.weight.detach(), rtol=1e-12, atol=1e-14)
    if head.centres.bias is not None:
        torch.testing.assert_close(head.centres.bias, reference.centres.bias.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("path", HEAD_CONFIGS, ids=lambda path: path.stem)
def test_sampled_engines_and_fused_updates_agree(path):
    config = read_head_config(path) | {"sample_rate": 0.3}
    results = []
    for engine, num_micro_batches, fused in (("dense", 1, False), ("chunked", 1, False), ("chunked", 1, True)):
        head = make(config, engine=engine)
        head.train_rows(partial(RowSGD, **SETTINGS), fused=fused)
        results.append([*train(head, num_micro_batches=num_micro_batches), *head.centres.weight.flatten().tolist()])
    assert results[1] == pytest.approx(results[0], rel=1e-10, abs=1e-12)
    assert results[2] == pytest.approx(results[0], rel=1e-10, abs=1e-12)


def test_a_sampled_step_is_a_step_over_the_drawn_classes_alone():
    head = make(read_head_config(next(path for path in HEAD_CONFIGS if path.stem == "arcface")), sample_rate=0.3)
    before = head.centres.weight.detach().clone()
    head.train_rows(partial(RowSGD, **SETTINGS))
    (emb_BD, labels_B), *_ = batches(1)
    drawn = drawn_classes(seed=0, step=0, classes=range(C), rate=0.3, labels_of_step=labels_B)
    assert len(labels_B.unique()) < len(drawn) < C

    few = MarginHead(num_classes=len(drawn), embedding_dim=D, m2=0.5).double()
    with torch.no_grad():
        few.centres.weight.copy_(before[drawn])
    loss = few(emb_BD, torch.searchsorted(drawn, labels_B)).loss
    loss.backward()
    assert train(head, num_steps=1) == pytest.approx([loss.item()])
    expected = before.clone()
    expected[drawn] -= LR * (few.centres.weight.grad + 1e-2 * before[drawn])
    torch.testing.assert_close(head.centres.weight, expected, rtol=1e-12, atol=1e-14)


def test_rows_that_were_not_drawn_keep_weights_and_momentum_to_the_bit():
    head = make(read_head_config(next(path for path in HEAD_CONFIGS if path.stem == "cosface")), sample_rate=0.2)
    head.train_rows(partial(RowSGD, **SETTINGS))
    train(head, num_steps=2)  # so that rows have momentum
    state = {name: value.clone() for name, value in head.state_dict().items()}
    assert set(state) == {"centres.weight", "rows.weight_optimizer.momentum_buffer"}
    emb_BD, labels_B = batches(1)[0]
    head.start_step(7, labels_of_step=labels_B, lr=LR)
    head(emb_BD, labels_B).loss.backward()
    head.end_step()
    drawn = drawn_classes(seed=0, step=7, classes=range(C), rate=0.2, labels_of_step=labels_B)
    others = torch.ones(C, dtype=torch.bool).index_fill_(0, drawn, False)
    for name, value in head.state_dict().items():
        assert torch.equal(value[others], state[name][others])
        assert not torch.equal(value[drawn], state[name][drawn])


def test_several_micro_batches_accumulate_and_a_scaled_gradient_is_unscaled():
    config = read_head_config(next(path for path in HEAD_CONFIGS if path.stem == "arcface")) | {"sample_rate": 0.5}
    results = []
    for num_micro_batches, grad_scale in ((1, 1.0), (3, 1.0), (3, 2.0**16)):
        head = make(config)
        head.train_rows(partial(RowSGD, **SETTINGS))
        train(head, num_micro_batches=num_micro_batches, grad_scale=grad_scale)
        results.append(head.centres.weight.detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(results[2], results[0], rtol=1e-12, atol=1e-14)


def test_a_skipped_step_moves_nothing():
    head = MarginHead(num_classes=C, embedding_dim=D, sample_rate=0.5)
    head.train_rows(partial(RowSGD, **SETTINGS))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    emb_BD, labels_B = batches(1)[0]
    head.start_step(0, labels_of_step=labels_B, lr=LR)
    head(emb_BD.float(), labels_B).loss.backward()
    head.end_step(skipped=True)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match=r"head\.sample_rate is 0.5.*train_rows"):
        MarginHead(num_classes=C, embedding_dim=D, sample_rate=0.5).start_step(0, labels_of_step=torch.arange(2))
    with pytest.raises(ConfigError, match=r"head\.engine=chunked"):
        MarginHead(num_classes=C, embedding_dim=D, engine="dense").train_rows(RowSGD, fused=True)
    for rate in (0.0, 1.1):
        with pytest.raises(ConfigError, match=r"head\.sample_rate"):
            MarginHead(num_classes=C, embedding_dim=D, sample_rate=rate)
