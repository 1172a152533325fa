"""Every head in configs/head over several processes against one process, in float64.

Letters: B samples of a micro-batch, C classes, D embedding dimensions.
"""

from functools import partial
from typing import Any

import pytest
import torch

from facerec.core.seeding import torch_seed_of
from facerec.heads.row_optimizer import RowSGD
from facerec.processes.group import this_process
from tests.numerics.conftest import HEAD_CONFIGS, build, read_head_config
from tests.processes import run_processes

B, D = 5, 6
NUM_MICRO_BATCHES, NUM_STEPS, LR = 12, 2, 0.5

CASES: dict[str, dict[str, Any]] = {
    "dense": {"engine": "dense"},
    "chunked": {"engine": "chunked", "classes_per_chunk": 2},
    "replicated": {"engine": "dense", "sharding": "replicated"},
    "sampled": {"engine": "chunked", "classes_per_chunk": 2, "sample_rate": 0.3},
    "sampled, dense": {"engine": "dense", "sample_rate": 0.3},
    "sampled, replicated": {"engine": "dense", "sharding": "replicated", "sample_rate": 0.3},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sub-centres": {"num_sub_centres": 3},
    "drop": {"inter_class_filter": "drop", "filter_threshold": 0.3},
    "zero": {"inter_class_filter": "zero", "filter_threshold": 0.3},
    "smoothing": {"label_smoothing": 0.1},
    "learned scale": {"learn_scale": True},
}


def all_cases() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By name: a head's configuration and what it is changed by."""
    cases = {}
    for path in HEAD_CONFIGS:
        for name, change in CASES.items():
            cases[f"{path.stem}: {name}"] = (read_head_config(path), change)
    for name, option in OPTIONS.items():
        for case, change in CASES.items():
            for head in ("arcface", "softmax", "curricularface"):
                config = read_head_config(next(path for path in HEAD_CONFIGS if path.stem == head))
                if name == "learned scale" and head == "softmax":
                    continue
                cases[f"{head}, {name}: {case}"] = (config, change | option)
    return cases


def train(config: dict[str, Any], change: dict[str, Any], num_classes: int) -> dict[str, torch.Tensor]:
    """Three steps of this process's part; losses and gradients by number, centres and buffers at the end."""
    processes = this_process()
    head = build(config | change, num_classes=num_classes, embedding_dim=D, init_std=1.0, seed=3).double()
    if head.sample_rate < 1:
        head.train_rows(partial(RowSGD, momentum=0.9))
    trained = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LR, momentum=0.9) if trained else None
    found: dict[str, torch.Tensor] = {}
    for step in range(NUM_STEPS):
        generator = torch.Generator().manual_seed(step)
        emb = torch.randn(NUM_MICRO_BATCHES, B, D, dtype=torch.float64, generator=generator) * 8
        labels = torch.randint(num_classes, (NUM_MICRO_BATCHES, B), generator=generator)
        head.start_step(step, labels_of_step=labels.flatten(), lr=LR)
        for index in range(processes.rank, NUM_MICRO_BATCHES, processes.world_size):
            torch.manual_seed(torch_seed_of("forward", step, index))  # ElasticFace draws its margins
            emb_BD = emb[index].requires_grad_()
            output = head(emb_BD, labels[index])
            (output.loss / NUM_MICRO_BATCHES).backward()
            found[f"loss {step} {index}"] = output.sample_losses_B
            found[f"cosine {step} {index}"] = output.target_cos_B.detach()
            found[f"gradient {step} {index}"] = emb_BD.grad
        for parameter in trained:
            shared = not head.is_sharded or parameter is head.learned_scale
            if shared and parameter.grad is not None:
                processes.sum_(parameter.grad)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        head.end_step()
    found |= {f"buffer {name}": value for name, value in head.named_buffers() if not name.startswith("rows.")}
    if head.learned_scale is not None:
        found["learned scale"] = head.learned_scale.detach()
    places = torch.arange(head.centres.classes.start, head.centres.classes.stop)
    weight = head.centres.weight.detach().view(len(places), head.centres.num_sub_centres, D)
    for place, row in zip(places.tolist(), weight, strict=True):
        found[f"centre {place}"] = row
    if head.centres.bias is not None:
        biases = zip(places.tolist(), head.centres.bias.detach(), strict=True)
        found |= {f"bias {place}": value for place, value in biases}
    return found


def train_all(num_classes: int, cases: list[str]) -> dict[str, dict[str, torch.Tensor]]:
    """`train` for all cases named."""
    every_case = all_cases()
    return {name: train(*every_case[name], num_classes) for name in cases}


def quick_cases() -> list[str]:
    """The engines that differ most, for every head; learned state and options with them."""
    return [name for name in all_cases() if name.endswith((": chunked", ": sampled, replicated"))]


@pytest.mark.parametrize(
    ("world_size", "num_classes", "cases"),
    [
        (3, 10, quick_cases()),
        pytest.param(2, 10, list(all_cases()), marks=pytest.mark.slow),
        pytest.param(4, 10, list(all_cases()), marks=pytest.mark.slow),
        pytest.param(4, 3, list(all_cases()), marks=pytest.mark.slow),  # one shard is empty
    ],
    ids=["3 processes", "2 processes", "4 processes", "4 processes, 3 classes"],
)
def test_processes_share_a_step_as_one_would_do_it(world_size, num_classes, cases):
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = train_all(num_classes, cases)
    torch.set_num_threads(num_threads)
    results = run_processes(world_size, train_all, num_classes, cases)
    for case, expected in alone.items():
        found = {name: value for of_rank in results for name, value in of_rank[case].items()}
        assert set(found) == set(expected), case
        for of_rank in results:  # what several have, such as buffers, is equal on all
            for name, value in of_rank[case].items():
                assert torch.allclose(value, expected[name], rtol=1e-9, atol=1e-11), f"{case}, {name}"
    shard = {name for name in results[0]["arcface: chunked"] if name.startswith("centre")}
    assert len(shard) == -(-num_classes // world_size)  # the centres are cut, not copied
