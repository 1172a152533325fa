"""What a checkpoint records about bit-exactness, and number formats."""

import pytest
import torch

from facerec.training.precision import autocast, environment


def test_environment_names_what_exactness_depends_on():
    threads = torch.get_num_threads()
    found = environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__ and found["num_threads"] == threads and found["num_processes"] == 1
    assert found["device"] == "cpu" and found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp64", torch.float32)],
)
def test_autocast_is_that_of_the_precision(precision, dtype):
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
