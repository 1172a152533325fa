"""The anatomy of a step, on profiles written by hand and on a real one."""

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile

from facerec.bench.step import WARM_UP_STEPS, Anatomy, step_anatomy
from facerec.training.step import AGREEMENT, BACKWARD, DATA, FORWARD, HEAD, PARTS, STEP, UPDATE
from tests.unit.training.trainers import build_trainer

STEP_US, NUM_STEPS = 1000, WARM_UP_STEPS + 2
ONE_STEP = [
    (STEP, 0, 900), (DATA, 0, 100), (FORWARD, 100, 300), (HEAD, 300, 400), (BACKWARD, 400, 800), (UPDATE, 800, 900),
    (AGREEMENT, 900, 950),
    ("aten::conv2d", 100, 300), ("aten::mkldnn_convolution", 110, 290),
    ("c10d::_allgather_base_", 310, 340), ("gloo:all_gather", 312, 338),  # nothing goes on beside it
    ("aten::mm", 350, 400), ("aten::convolution_backward", 400, 700),
    ("gloo:all_reduce", 500, 760), ("gloo:all_reduce", 600, 780),  # 80 longer than the backward pass
    ("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", 400, 800),
    ("aten::_foreach_add_", 800, 890),
]  # fmt: skip
IN_A_STEP = Anatomy(
    num_steps=2,
    step_s=950e-6,
    part_s={DATA: 100e-6, FORWARD: 200e-6, HEAD: 100e-6, BACKWARD: 400e-6, UPDATE: 100e-6, AGREEMENT: 50e-6},
    collectives_s=306e-6,
    exposed_s=106e-6,
)


def events(spans, *, num_steps: int = NUM_STEPS, device_type=DeviceType.CPU) -> list[FunctionEvent]:
    made = []
    for number in range(num_steps):
        offset = number * STEP_US
        slow = 7 if number < WARM_UP_STEPS else 1  # whatever happens there does not count
        for name, start, end in spans:
            made.append(
                FunctionEvent(
                    id=len(made), name=name, thread=1, device_type=device_type,
                    start_us=offset + start, end_us=offset + start + (end - start) / slow,
                )
            )  # fmt: skip
    return made[::-1]


def assert_equal(found: Anatomy, expected: Anatomy) -> None:
    assert found.num_steps == expected.num_steps
    assert found.part_s == pytest.approx(expected.part_s)
    for name in ("step_s", "collectives_s", "exposed_s"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name


def test_steps_are_taken_apart():
    assert_equal(step_anatomy(events(ONE_STEP)), IN_A_STEP)


def test_between_steps_nothing_counts():
    outside = [("aten::conv2d", 955, 990), ("gloo:broadcast", 960, 999)]
    assert_equal(step_anatomy(events([*ONE_STEP, *outside])), IN_A_STEP)


def test_with_collectives_on_a_gpu_its_kernels_count():
    kernels = [("ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)", 500, 700), ("sm90_xmma_wgrad", 450, 650)]
    parts = [span for span in ONE_STEP if span[0] in (STEP, *PARTS)]
    found = step_anatomy(events(ONE_STEP) + events(kernels, device_type=DeviceType.CUDA))
    assert found.part_s == step_anatomy(events(parts)).part_s
    assert (found.collectives_s, found.exposed_s) == pytest.approx((200e-6, 50e-6))


def test_profile_of_too_few_steps_has_no_anatomy():
    assert step_anatomy(events(ONE_STEP, num_steps=WARM_UP_STEPS)) is None
    assert step_anatomy([]) is None


def test_parts_of_a_real_step_add_up(tmp_path):
    with profile() as profiler:
        build_trainer(tmp_path, num_steps=8).fit()
    torch.set_num_threads(1)
    found = step_anatomy(profiler.events())
    assert found.num_steps == 8 - WARM_UP_STEPS
    assert all(found.part_s[part] > 0 for part in PARTS)
    assert 0.5 * found.step_s < sum(found.part_s.values()) <= found.step_s
    assert found.part_s[BACKWARD] > found.part_s[HEAD]
    assert found.collectives_s == found.exposed_s == 0
