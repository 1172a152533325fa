"""The chunked engine against the dense one: every head, several micro-batches, chunks of any size, fused updates."""

from pathlib import Path

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.heads.chunked import chunked
from facerec.heads.combined import MarginHead
from facerec.heads.engines import EngineInput, dense
from facerec.processes.group import Processes
from tests.numerics.conftest import HEAD_CONFIGS, build, read_head_config

C, D, B = 97, 24, 48


def accumulated(path: Path, engine: str, *, num_micro_batches: int, **options) -> list[torch.Tensor]:
    """Loss and gradients of a global batch in fp32."""
    head = build(
        read_head_config(path),
        num_classes=C,
        embedding_dim=D,
        init_std=1.0,
        engine=engine,
        classes_per_chunk=20,
        **options,
    )
    generator = torch.Generator().manual_seed(0)
    emb_BD = (5 * torch.randn(B, D, generator=generator)).requires_grad_()
    labels_B = torch.randint(C, (B,), generator=generator)
    torch.manual_seed(1)
    loss = torch.zeros(())
    for emb, labels in zip(emb_BD.chunk(num_micro_batches), labels_B.chunk(num_micro_batches), strict=True):
        part = head(emb, labels).loss / num_micro_batches
        part.backward()
        loss += part.detach()
    return [loss, emb_BD.grad, *(parameter.grad for parameter in head.parameters())]


@pytest.mark.parametrize("path", HEAD_CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("num_micro_batches", [1, 3])
@pytest.mark.parametrize("num_sub_centres", [1, 2])
def test_chunked_matches_dense_in_fp32(path, num_micro_batches, num_sub_centres):
    case = {"num_micro_batches": num_micro_batches, "num_sub_centres": num_sub_centres}
    for found, expected in zip(accumulated(path, "chunked", **case), accumulated(path, "dense", **case), strict=True):
        assert ((found - expected).norm() / expected.norm()).item() < 1e-5


@pytest.mark.parametrize("classes_per_chunk", [1, 7, 97, 1000])
def test_chunks_of_any_size(classes_per_chunk):
    given = EngineInput(
        emb_BD=torch.nn.functional.normalize(torch.randn(5, D, generator=torch.Generator().manual_seed(0))).double(),
        weight_RD=torch.randn(C, D, generator=torch.Generator().manual_seed(1)).double().requires_grad_(),
        labels_B=torch.tensor([0, 1, 50, 96, 96]),
        scale=30.0,
    )
    results = []
    for output in (dense(given), chunked(given, classes_per_chunk=classes_per_chunk)):
        loss = (output.negatives_lse_B - 30 * output.target_cos_B).sum()
        results.append((loss, *torch.autograd.grad(loss, given.weight_RD)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_gradient_through_the_target_cosine_of_g_is_followed():
    def negatives(cos_BC: torch.Tensor, cos_target_B: torch.Tensor) -> torch.Tensor:
        return cos_BC * (1.5 - cos_target_B[:, None]) + cos_target_B[:, None].sin()

    results = []
    for engine in (dense, lambda given: chunked(given, classes_per_chunk=10)):
        emb_BD = torch.nn.functional.normalize(torch.randn(6, D, generator=torch.Generator().manual_seed(0))).double()
        emb_BD.requires_grad_()
        weight_RD = torch.randn(C, D, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        labels_B = torch.tensor([3, 3, 0, 96, 20, 10])
        output = engine(
            EngineInput(emb_BD=emb_BD, weight_RD=weight_RD, labels_B=labels_B, scale=10.0, negatives=negatives)
        )
        loss = (output.negatives_lse_B - output.target_cos_B).sum()
        results.append((loss, *torch.autograd.grad(loss, (emb_BD, weight_RD))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    given = EngineInput(emb_BD=emb_BD, weight_RD=weight_RD, labels_B=labels_B, scale=10.0, negatives=negatives)
    with pytest.raises(ConfigError, match="fused_centres"):
        chunked(given, row_update=lambda rows, gradient: None).negatives_lse_B.sum().backward()


def test_row_update_gets_every_row_once_and_no_gradient_of_all_centres_is_made():
    head = MarginHead(num_classes=C, embedding_dim=D, m2=0.5).double()
    emb_BD, labels_B = torch.randn(B, D, generator=torch.Generator().manual_seed(0)).double(), torch.arange(B)
    head(emb_BD, labels_B).loss.backward()
    collected = torch.zeros_like(head.centres.weight)

    def collect(rows: slice, gradient_rD: torch.Tensor) -> None:
        collected[rows] += gradient_rD

    unit_BD = torch.nn.functional.normalize(emb_BD)
    weight_RD = head.centres.weight.detach().clone().requires_grad_()
    given = EngineInput(emb_BD=unit_BD.requires_grad_(), weight_RD=weight_RD, labels_B=labels_B, scale=64.0)
    output = chunked(given, classes_per_chunk=10, row_update=collect)
    gap_B = output.negatives_lse_B - 64 * head.target(output.target_cos_B, emb_BD.norm(dim=1))
    torch.logaddexp(gap_B, torch.zeros_like(gap_B)).mean().backward()
    assert weight_RD.grad is None
    torch.testing.assert_close(collected, head.centres.weight.grad, rtol=1e-10, atol=1e-10)


def test_auto_takes_the_dense_engine_for_few_classes_and_the_chunked_for_many(caplog):
    with caplog.at_level("INFO", logger="facerec"):
        MarginHead(num_classes=1000, embedding_dim=4)(torch.ones(8, 4), torch.arange(8))
        MarginHead(num_classes=600_000, embedding_dim=4)(torch.ones(8, 4), torch.arange(8))
    assert [record.message for record in caplog.records] == [
        "head engine: dense, for 8 samples of 1000 classes",
        "head engine: chunked, for 8 samples of 600000 classes",
    ]


@pytest.mark.parametrize(("sharding", "num_held"), [("sharded", 300_000), ("replicated", 600_000)])
def test_head_that_assumes_processes_and_a_gpu_keeps_its_shard_and_takes_the_chunks_of_a_gpu(sharding, num_held):
    head = MarginHead(num_classes=600_000, embedding_dim=4, sharding=sharding, engine="chunked")
    head.assume(processes=Processes(rank=1, world_size=2), device_type="cuda")
    assert len(head.centres.classes) == len(head.centres.weight) == num_held
    assert head.centres.classes.stop == 600_000 and head.is_sharded == (sharding == "sharded")
    rows: list[slice] = []
    emb_BD = torch.eye(4).repeat(8, 1).requires_grad_()
    given = EngineInput(
        emb_BD=emb_BD, weight_RD=head.centres.weight, labels_B=torch.zeros(32, dtype=torch.int64), scale=64.0
    )
    engine = head._choose_engine(given)
    engine(given, row_update=lambda chunk, _gradient: rows.append(chunk)).negatives_lse_B.sum().backward()
    assert {chunk.stop - chunk.start for chunk in rows[:-1]} <= {2**24 // 32} and rows[-1].stop == num_held
