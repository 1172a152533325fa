"""Each process of a machine gets a device of its own."""

import pytest
import torch

from facerec.core.device import choose_device
from facerec.core.errors import ConfigError
from facerec.processes import own_device as own_device_module
from facerec.processes.own_device import own_device


@pytest.fixture
def machine(monkeypatch):
    """`machine(num_gpus=..., WORLD_SIZE=...)` makes one up; returns what is done with its GPUs, in order."""

    def make(*, num_gpus: int, **variables: int) -> list[tuple[str, str]]:
        done: list[tuple[str, str]] = []
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
        monkeypatch.setattr(torch.cuda, "set_device", lambda name: done.append(("made current", name)))
        choose = choose_device if num_gpus == 0 else lambda name: done.append(("used", name)) or torch.device(name)
        monkeypatch.setattr(own_device_module, "choose_device", choose)
        return done

    return make


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize("rank", [0, 3])
def test_each_process_of_a_machine_gets_a_gpu_of_its_own_before_any_is_used(name, rank, machine):
    done = machine(num_gpus=4, WORLD_SIZE=8, LOCAL_WORLD_SIZE=4, LOCAL_RANK=rank)
    assert own_device(name) == torch.device("cuda", rank)
    assert done == [("made current", f"cuda:{rank}"), ("used", f"cuda:{rank}")]


def test_chosen_gpu_is_made_current_before_any_is_used(machine):
    done = machine(num_gpus=4)
    assert own_device("cuda:1") == torch.device("cuda:1")
    assert done == [("made current", "cuda:1"), ("used", "cuda:1")]


def test_one_process_alone_keeps_the_gpu_that_is_current(machine):
    for variables in ({}, {"LOCAL_RANK": 2}, {"WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "LOCAL_RANK": 0}):
        done = machine(num_gpus=4, **variables)
        assert own_device("auto") == torch.device("cuda") and done == [("used", "cuda")]


def test_one_process_on_each_machine_may_name_its_gpu(machine):
    machine(num_gpus=2, WORLD_SIZE=2, LOCAL_WORLD_SIZE=1, LOCAL_RANK=0)
    assert own_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("name", "num_gpus", "message"),
    [
        (
            "cuda:0",
            8,
            r"trainer\.device=cuda:0 would put all 4 processes .* on one GPU: use trainer\.device=cuda, which",
        ),
        ("cuda", 2, r"4 processes on this machine, but torch finds 2 GPUs: .*launch\.gpus=.*trainer\.device=cpu"),
        ("auto", 1, r"4 processes on this machine, but torch finds 1 GPU: "),
        ("cuda", 0, r"4 processes on this machine, but torch finds 0 GPUs: "),
    ],
)
def test_processes_that_would_share_a_gpu_are_refused(name, num_gpus, message, machine):
    done = machine(num_gpus=num_gpus, WORLD_SIZE=8, LOCAL_WORLD_SIZE=4, LOCAL_RANK=1)
    with pytest.raises(ConfigError, match=message):
        own_device(name)
    assert done == []


def test_several_processes_train_on_the_cpu_of_a_machine_with_gpus(machine):
    done = machine(num_gpus=1, WORLD_SIZE=4, LOCAL_WORLD_SIZE=4, LOCAL_RANK=3)
    assert own_device("cpu") == torch.device("cpu") and done == [("used", "cpu")]


def test_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="device=cuda:99 cannot be used"):
        own_device("cuda:99")
