"""Plans of memory and traffic: what they say of shards, engines and precision, and that trainings agree."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facerec.bench.live_tensors import LiveTensors
from facerec.bench.plan import (
    ACTIVATIONS,
    BUCKETS,
    CENTRE_GRADIENT,
    CENTRE_STATE,
    CENTRE_SUMS,
    CENTRES,
    DRAWN,
    EMBEDDING_GRADIENTS,
    EMBEDDINGS,
    GATHERED,
    GRADIENTS,
    HEAD,
    NETWORK_SUMS,
    SAMPLES,
    STATE,
    WEIGHTS,
)
from facerec.bench.rehearsal import make_plan
from facerec.cli.config.arguments import build
from facerec.cli.config.compose import compose
from facerec.cli.config.config_files import config_directories, group_options
from facerec.cli.verbs.parts import build_network
from facerec.core.errors import ConfigError
from tests.processes import run_processes
from tests.unit.bench.plan_runs import Case, measured_peak, measured_traffic

SMALL = Case(num_classes=100_000, embedding_dim=64, global_batch_size=8, micro_batch_size=8)
ROW = 64 * 4
NETWORK_BYTES = 4 * sum(p.numel() for p in SMALL.network().parameters())
TRAINED_BYTES = 4 * sum(p.numel() for p in SMALL.network().parameters() if p.requires_grad)


def test_each_process_holds_the_largest_shard_of_the_centres_with_gradient_and_momentum():
    for world_size, num_own in ((1, 100_000), (3, 33_334), (8, 12_500)):
        case = replace(SMALL, world_size=world_size, global_batch_size=8 * world_size)
        held = make_plan(case.job()).held_bytes[HEAD]
        assert held[CENTRES] == held[CENTRE_STATE] == held[CENTRE_GRADIENT] == num_own * ROW
        assert held.get(GATHERED, 0) == (0 if world_size == 1 else 8 * world_size * ROW)
        assert held.get(BUCKETS, 0) == (0 if world_size == 1 else TRAINED_BYTES)
        assert held[STATE] == TRAINED_BYTES
        assert NETWORK_BYTES < held[WEIGHTS] < 1.01 * NETWORK_BYTES  # the statistics of batch normalisation besides


def test_traffic_depends_on_the_number_of_classes_only_where_centres_are_replicated():
    case = replace(SMALL, world_size=4, global_batch_size=64)
    sent = make_plan(case.job()).sent_bytes
    assert sent == make_plan(replace(case, num_classes=1_000_000).job()).sent_bytes
    assert sent[NETWORK_SUMS] == 2 * TRAINED_BYTES * 3 // 4
    # two micro-batches of 8 in each process
    assert sent[EMBEDDINGS] == sent[EMBEDDING_GRADIENTS] == 2 * 3 * 8 * ROW
    # labels, the log-sum-exp of each shard; all-reduced: target cosines, their gradient, that of the log-sum-exp
    assert sent[SAMPLES] == 2 * (3 * 8 * 8 + 3 * 32 * 4 + 3 * 2 * 32 * 4 * 3 // 4)
    replicated = make_plan(replace(case, sharding="replicated").job())
    assert replicated.sent_bytes[CENTRE_SUMS] == 2 * 100_000 * ROW * 3 // 4
    assert replicated.sent_bytes.keys() == {NETWORK_SUMS, CENTRE_SUMS}
    assert replicated.held_bytes[HEAD][CENTRES] == 100_000 * ROW


def test_fused_updates_have_no_gradient_and_sampling_has_a_small_one():
    fused = make_plan(replace(SMALL, fused=True).job()).held_bytes[HEAD]
    assert CENTRE_GRADIENT not in fused and fused[CENTRES] == fused[CENTRE_STATE] == 100_000 * ROW
    sampled = make_plan(replace(SMALL, sample_rate=0.1).job()).held_bytes[HEAD]
    assert sampled[CENTRES] == sampled[CENTRE_STATE] == 100_000 * ROW
    assert sampled[CENTRE_GRADIENT] == (10_000 + 8) * ROW  # 7.2 of the 8 labels are not drawn by chance
    assert sampled[DRAWN] == (10_000 + 8) * (ROW + 8 + 8)  # with the numbers of the classes and of their rows


def test_adamw_keeps_two_moments_of_the_centres_and_a_count_of_steps():
    held = make_plan(replace(SMALL, optimizer="adamw").job()).held_bytes[HEAD]
    assert held[CENTRE_STATE] == 2 * 100_000 * ROW + 4


def test_a_plan_leaves_the_random_numbers_of_the_process_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_plan(SMALL.job())
    assert torch.equal(torch.rand(3), expected)


def test_micro_batches_add_up_in_gradients_that_are_there_already():
    held = make_plan(replace(SMALL, global_batch_size=16).job()).held_bytes[HEAD]
    assert held[GRADIENTS] == TRAINED_BYTES
    assert GRADIENTS not in make_plan(SMALL.job()).held_bytes[HEAD]


def test_autocast_keeps_about_half_of_the_activations_and_fp64_twice_as_much():
    kept = {
        precision: make_plan(replace(SMALL, precision=precision).job()).held_bytes[HEAD][ACTIVATIONS]
        for precision in ("fp32", "bf16", "fp64")
    }
    assert 0.5 < kept["bf16"] / kept["fp32"] < 0.6
    assert kept["fp64"] == pytest.approx(2 * kept["fp32"], rel=0.01)


def test_a_plan_takes_no_memory_itself():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc here: the high-water mark of this process cannot be read")

    def peak_bytes() -> int:
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)

    make_plan(SMALL.job())
    before = peak_bytes()
    plan = make_plan(replace(SMALL, num_classes=20_000_000, engine="dense").job())
    assert plan.held_bytes[HEAD][CENTRES] == 20_000_000 * ROW
    assert peak_bytes() - before < 200e6


def test_what_the_trainer_refuses_is_refused():
    with pytest.raises(ConfigError, match=r"data.global_batch_size=8 in micro-batches of 8 .* by 3 processes"):
        replace(SMALL, world_size=3).job()
    with pytest.raises(ConfigError, match="a step has 2"):
        make_plan(replace(SMALL, global_batch_size=16, fused=True).job())
    with pytest.raises(ConfigError, match=r"use head.sharding=sharded"):
        make_plan(
            replace(SMALL, global_batch_size=16, world_size=2, fused=True, engine="auto", sharding="replicated").job()
        )


def test_live_tensors_count_blocks_not_views_and_keep_the_fullest_time_of_each_moment():
    live = LiveTensors(kind="a", moment="first")
    with live:
        kept = torch.zeros(100)
        view = kept[10:].view(9, 10)
        gone = torch.ones(50)
        del gone
        live.moment, live.kind = "second", "b"
        more = view + 1  # (9, 10)
        live.name(kept, "c")
        del more
    assert live.peaks() == {"first": {"c": 400, "a": 200}, "second": {"c": 400, "b": 360}}


OPTIONS = [(group, option) for group in ("backbone", "head") for option in group_options(group, config_directories())]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_backbone_and_every_head_can_be_planned(group, option):
    if option == "timm":
        pytest.importorskip("timm")
    config = compose("train", [f"{group}={option}", "head.num_classes=1000"])
    job = replace(
        SMALL.job(),
        make_network=lambda: build_network(config),
        make_head=lambda num_classes: build({**config.head, "num_classes": num_classes}),
        num_classes=1000,
        world_size=2,
        global_batch_size=16,
    )
    plan = make_plan(job)
    held = plan.held_bytes[HEAD]
    num_rows = 500 * config.head.num_sub_centres
    assert num_rows * 512 * 4 <= held[CENTRES] < 1.01 * num_rows * 512 * 4  # biases, and what a head learns besides
    assert held[ACTIVATIONS] > 8 * 3 * 112 * 112 * 4
    assert set(plan.sent_bytes) >= {NETWORK_SUMS, EMBEDDINGS, EMBEDDING_GRADIENTS, SAMPLES}


LARGE = Case(num_classes=400_000, global_batch_size=32, micro_batch_size=32)
MEASURED = {
    "iresnet dense": replace(LARGE, num_classes=200_000, engine="dense"),
    "iresnet chunked": LARGE,
    "mobilefacenet dense": replace(
        LARGE, backbone="mobilefacenet", num_classes=200_000, engine="dense", global_batch_size=16, micro_batch_size=16
    ),
    "mobilefacenet chunked": replace(LARGE, backbone="mobilefacenet", global_batch_size=16, micro_batch_size=16),
    "adamw": replace(LARGE, optimizer="adamw"),
    "bf16": replace(LARGE, num_classes=200_000, global_batch_size=64, micro_batch_size=64, precision="bf16"),
    "activations recomputed": replace(
        LARGE, backbone="iresnet18_recomputed", num_classes=200_000, global_batch_size=64, micro_batch_size=64
    ),
    "fused": replace(LARGE, num_classes=800_000, fused=True),
    "sampled": replace(LARGE, num_classes=800_000, sample_rate=0.3, optimizer="adamw"),
    "two processes": replace(LARGE, num_classes=800_000, micro_batch_size=16, world_size=2),
    "two processes, two micro-batches": replace(LARGE, global_batch_size=64, micro_batch_size=16, world_size=2),
    "two processes, replicated": replace(
        LARGE, num_classes=300_000, micro_batch_size=16, world_size=2, sharding="replicated"
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can say what a process had at most")
@pytest.mark.parametrize("name", MEASURED)
def test_trainings_take_as_much_memory_as_planned(name):
    case = MEASURED[name]
    plan = make_plan(case.job())
    assert plan.peak_bytes > 500e6
    for measured in run_processes(case.world_size, measured_peak, case):
        assert plan.peak_bytes == pytest.approx(measured, rel=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["sharded", "replicated"])
def test_trainings_send_as_much_as_planned(sharding):
    case = replace(SMALL, num_classes=5_000, global_batch_size=32, world_size=2, sharding=sharding)
    planned = sum(make_plan(case.job()).sent_bytes.values())
    angles = 2 * 8 * 4  # of each sample, for the log
    assert run_processes(2, measured_traffic, case) == [planned + angles] * 2
