"""Training stops at the first loss or weight that is not finite; what it says leads to the cause."""

import math

import pytest
import torch
from torch import nn

from facerec.core.batch import Batch
from facerec.core.errors import TrainingError
from facerec.training.finite_guard import FiniteGuard


def batch(*, step: int = 3, micro_index: int = 1, size: int = 4) -> Batch:
    return Batch(
        images=torch.zeros(size, 2, 2, 3, dtype=torch.uint8),
        labels=torch.zeros(size, dtype=torch.int64),
        indices=torch.arange(100, 100 + size),
        step=step,
        micro_index=micro_index,
    )


def guard() -> FiniteGuard:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    return FiniteGuard(
        network=network, objective=nn.Linear(2, 1), sample_name=lambda index: f"train.rec, record {index}"
    )


def test_finite_numbers_pass():
    watching = guard()
    watching.watch(batch(), torch.ones(4, 2), torch.ones(4))
    watching.check()
    watching.check_weights(5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_losses_are_named_with_step_micro_batch_and_samples(bad):
    with pytest.raises(TrainingError) as raised:
        guard().watch(batch(), torch.ones(4, 2), torch.tensor([1.0, bad, 1.0, bad]))
    message = str(raised.value)
    assert message.startswith("step 3, micro-batch 1: not finite: the loss (the embeddings are finite), for 2 of 4")
    assert "train.rec, record 101, train.rec, record 103. Lower optimizer.lr" in message


def test_bad_embedding_and_the_weight_behind_it_are_named():
    watching = guard()
    with torch.no_grad():
        watching.network[1].running_var[0] = math.nan
    emb_BD = torch.ones(4, 2)
    emb_BD[2, 1] = -math.inf
    with pytest.raises(TrainingError, match=r"not finite: the embedding \(and the weight 1\.running_var\), for 1 of 4"):
        watching.watch(batch(), emb_BD, torch.ones(4))


def test_at_most_five_samples_are_named():
    with pytest.raises(TrainingError, match=r"record 104 and 15 more\."):
        guard().watch(batch(size=20), torch.ones(20, 2), torch.full((20,), math.nan))


@pytest.mark.parametrize(
    ("part", "name"), [("network", "0.weight"), ("network", "1.running_mean"), ("objective", "objective.bias")]
)
def test_bad_weights_are_named_with_the_step_that_made_them(part, name):
    watching = guard()
    tensors = {
        **watching.network.state_dict(),
        **{f"objective.{k}": v for k, v in watching.objective.state_dict().items()},
    }
    tensors[name].view(-1)[-1] = math.nan
    with pytest.raises(TrainingError, match=rf"step 4: its losses are finite, but after its update {name} is not"):
        watching.check_weights(5)


def test_a_gpu_is_looked_at_one_step_late():
    watching = guard()
    # what `watch` notes without looking, as it does off the CPU
    for step, is_finite in ((3, True), (4, False)):
        watching._watched.append((batch(step=step), torch.tensor([True] * 4), torch.tensor([is_finite] * 4)))
    watching.check(before_step=4)
    assert len(watching._watched) == 1
    with pytest.raises(TrainingError, match="step 4"):
        watching.check_weights(5)
