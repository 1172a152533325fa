"""Tensors come back from a distributed checkpoint as they were, and its metadata run nothing."""

import os
import pickle

import pytest
import torch
import torch.distributed as dist

from facerec.core.errors import CheckpointError
from facerec.heads.shards import shard_of
from facerec.processes.group import ALONE, this_process
from facerec.training.state_files import read_tensors, write_tensors
from tests.processes import run_processes

TENSORS = {
    "weight|momentum": torch.arange(6.0).view(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "double": torch.tensor([[1 / 3]], dtype=torch.float64),
    "step": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "nothing": torch.empty(0, 4),
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
}


def read(directory) -> dict[str, torch.Tensor]:
    return read_tensors(directory, is_sharded=lambda name: False, processes=ALONE)


@pytest.fixture
def written(tmp_path):
    write_tensors(tmp_path / "state", TENSORS, shard_lengths={}, processes=ALONE)
    return tmp_path / "state"


def test_tensors_come_back(written):
    found = read(written)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


class Planted:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_planted_code_in_the_metadata_is_refused_and_does_not_run(written, tmp_path):
    (written / ".metadata").write_bytes(pickle.dumps({"state_dict_metadata": Planted(tmp_path / "ran")}))
    with pytest.raises(CheckpointError, match=r"\.metadata cannot be read \(it names posix\.mkdir.*Nothing in it was"):
        read(written)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch.load", "torch.serialization._get_layout.__globals__"])
def test_other_names_are_refused(name, written):
    module, _, attribute = name.rpartition(".")
    (written / ".metadata").write_bytes(b"\x80\x04c" + f"{module}\n{attribute}\n".encode() + b".")
    with pytest.raises(CheckpointError, match="which no checkpoint of facerec needs"):
        read(written)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2])])
def test_damaged_metadata_is_an_error_that_names_the_file(content, written):
    (written / ".metadata").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state/\.metadata"):
        read(written)


def test_damaged_tensors_are_an_error_that_names_the_directory(written):
    (written / "__0_0.distcp").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=rf"{written} cannot be read"):
        read(written)


def count_new_groups(folder) -> tuple[int, bool]:
    """Writes and reads shards where torch believes in GPUs: how many groups it made, and whether all came back."""
    made, new_group = [], dist.new_group

    def counted(*args, **kwargs):
        made.append(kwargs)
        return new_group(*args, **{**kwargs, "backend": "gloo"})

    torch.cuda.is_available = lambda: True
    dist.new_group = dist.device_mesh.new_group = counted
    processes = this_process()
    whole = {name: torch.arange(10.0 * factor).view(-1, 2) for name, factor in (("centres", 1), ("momentum", 2))}
    came_back = True
    for group in (processes, processes.for_another_thread()):
        for number in range(2):
            path = folder / f"{number}-{group is processes}"
            lengths = {name: len(tensor) for name, tensor in whole.items()}
            own = {name: tensor[shard_of(len(tensor), group)] for name, tensor in whole.items()}
            write_tensors(path, own, shard_lengths=lengths, processes=group)
            found = read_tensors(path, is_sharded=lambda name: True, processes=group)
            came_back &= all(torch.equal(found[name], own[name]) for name in own)
    return len(made), came_back


def test_shards_over_gloo_make_no_group_on_a_machine_with_gpus(tmp_path):
    """One is made, for the thread that writes, however many tensors and checkpoints there are."""
    assert run_processes(2, count_new_groups, tmp_path) == [(1, True), (1, True)]
