"""Every term in configs/loss over several processes against one process, in float64.

Letters: B samples of a micro-batch, C classes, D embedding dimensions.
"""

from typing import Any

import pytest
import torch

from facerec.heads.combined import MarginHead
from facerec.losses.objective import Objective
from facerec.processes.group import this_process
from tests.numerics.term_configs import TERMS, build_term
from tests.processes import run_processes

B, D = 6, 5
NUM_STEPS, LR = 2, 0.5

HEADS: dict[str, dict[str, Any]] = {
    "dense": {"engine": "dense"},
    "chunked": {"engine": "chunked", "classes_per_chunk": 2},
    "replicated": {"engine": "dense", "sharding": "replicated"},
}
CHANGES: dict[str, list[dict[str, Any]]] = {"inter": [{"energy": "mhe"}], "triplet": [{"mining": "semi_hard"}]}


def all_cases() -> dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    """By name: a head's arguments, and its terms with what each is changed by."""
    choices = [{name: change} for name in TERMS for change in ({}, *CHANGES.get(name, ()))]
    choices.append({name: {} for name in TERMS})
    return {f"{terms}: {head}": (change, terms) for terms in choices for head, change in HEADS.items()}


def train(
    head_change: dict[str, Any], term_changes: dict[str, dict[str, Any]], *, num_classes: int, num_micro_batches: int
) -> dict[str, torch.Tensor]:
    """Some steps of this process's part: losses, gradients and what the terms have learned, by number."""
    processes = this_process()
    head = MarginHead(num_classes=num_classes, embedding_dim=D, scale=8.0, m2=0.3, init_std=1.0, seed=3, **head_change)
    built = {
        name: build_term(name, num_classes=num_classes, embedding_dim=D, **{"weight": 3.0} | changes)
        for name, changes in term_changes.items()
    }
    objective = Objective(head=head, terms=built).double()
    weight, places = head.centres.weight, list(head.centres.classes)
    num_own = num_micro_batches // processes.world_size
    found: dict[str, torch.Tensor] = {}
    for step in range(NUM_STEPS):
        generator = torch.Generator().manual_seed(step)
        emb = torch.randn(num_micro_batches, B, D, dtype=torch.float64, generator=generator) * 8
        images = torch.randint(256, (num_micro_batches, B, 4, 4, 3), dtype=torch.uint8, generator=generator)
        pairs = [torch.randperm(num_classes, generator=generator)[: B // 2] for _ in range(num_micro_batches)]
        labels = torch.stack(pairs).repeat_interleave(2, dim=1)  # every sample has a positive, for the triplets
        objective.start_step(step, margin_fraction=1.0, labels_of_step=labels.flatten())
        for index in range(processes.rank * num_own, (processes.rank + 1) * num_own):
            emb_BD = emb[index].requires_grad_()
            output = objective(emb_BD, labels[index], images[index])
            # every micro-batch has another gradient, so that none can be taken for that of another process
            (output.loss * (1 + index) / num_micro_batches).backward()
            found |= {f"{name} {step} {index}": value for name, value in output.logs.items()}
            found[f"gradient {step} {index}"] = emb_BD.grad
        if not head.is_sharded:
            processes.sum_(weight.grad)
        if places:  # an empty shard may have no gradient
            found |= {f"centre gradient {step} {place}": row for place, row in zip(places, weight.grad, strict=True)}
            with torch.no_grad():
                weight -= LR * weight.grad
            weight.grad = None
        objective.end_step()
        found |= {f"buffer {step} {name}": value.clone() for name, value in objective.named_buffers()}
    return found


def train_all(
    cases: list[str], all_num_classes: list[int], num_micro_batches: int
) -> dict[str, dict[str, torch.Tensor]]:
    """`train` for the cases named with every number of classes."""
    every_case = all_cases()
    return {
        f"{case}, {num_classes} classes": train(
            *every_case[case], num_classes=num_classes, num_micro_batches=num_micro_batches
        )
        for num_classes in all_num_classes
        for case in cases
    }


def quick_cases() -> list[str]:
    """One engine for shards, and all centres on each."""
    return [name for name in all_cases() if not name.endswith(": dense")]


@pytest.mark.parametrize(
    ("world_size", "all_num_classes", "cases"),
    [
        (3, [10, 4], quick_cases()),  # of 10 the last shard is shorter, of 4 empty
        pytest.param(2, [10, 3], list(all_cases()), marks=pytest.mark.slow),
        pytest.param(4, [10, 3], list(all_cases()), marks=pytest.mark.slow),
    ],
    ids=["3 processes", "2 processes", "4 processes"],
)
def test_processes_share_a_step_as_one_would_do_it(world_size, all_num_classes, cases):
    arguments = (cases, all_num_classes, 2 * world_size)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = train_all(*arguments)
    torch.set_num_threads(num_threads)
    results = run_processes(world_size, train_all, *arguments)
    for case, expected in alone.items():
        assert {name for of_rank in results for name in of_rank[case]} == set(expected), case
        for of_rank in results:  # what several have, such as buffers, is equal on all
            for name, value in of_rank[case].items():
                largest = expected[name].abs().max()
                assert (value - expected[name]).abs().max() <= 1e-10 * largest, f"{case}, {name}"
