"""Class centres at the means of their classes, placed by several processes: those of one, to the bit."""

import numpy as np
import pytest
import torch
from torch import nn

from facerec.core.errors import FacerecError
from facerec.core.input_spec import InputSpec
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.heads.centres import ClassCentres
from facerec.heads.shards import shard_of
from facerec.processes.group import this_process
from facerec.training.class_means import start_at_class_means
from tests.noise_source import NoiseSource
from tests.processes import run_processes

SIZE_PX, D = 16, 8
CASES = [("sharded", 1, 4), ("sharded", 3, 2), ("replicated", 1, 5), ("sharded", 1, 40)]
"""Sharding, sub-centres, images in a batch: of 18, so that some processes have no last batch."""


class CountingEmbedder:
    """A network whose results depend in the last bits on the images that share a batch; counts the images."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE_PX**2 * 3, 64), nn.Tanh(), nn.Linear(64, D))
        self.embed = NetworkEmbedder(network=network, input_spec=InputSpec(height_px=SIZE_PX, width_px=SIZE_PX))
        self.num_images = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.num_images += len(images)
        return self.embed(images)


def source(*, damaged: tuple[int, ...] = ()) -> NoiseSource:
    """18 images of 6 identities."""
    return NoiseSource(num_classes=6, images_per_class=3, size_px=SIZE_PX, damaged=damaged)


def place(sharding: str, num_sub_centres: int, batch_size: int) -> tuple[range, torch.Tensor, int]:
    """The classes that this process holds, their centres, and the number of images that it embedded."""
    embed = CountingEmbedder()
    shard = shard_of(6, this_process()) if sharding == "sharded" else None
    centres = ClassCentres(num_classes=6, embedding_dim=D, num_sub_centres=num_sub_centres, shard=shard)
    start_at_class_means(centres, embed=embed, source=source(), batch_size=batch_size)
    return centres.classes, centres.weight.detach(), embed.num_images


def error_of(*damaged: int) -> str:
    """The error of this process for a set with damaged images."""
    centres = ClassCentres(num_classes=6, embedding_dim=D)
    try:
        start_at_class_means(centres, embed=CountingEmbedder(), source=source(damaged=damaged), batch_size=4)
    except FacerecError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def place_and_fail() -> tuple[list[tuple[range, torch.Tensor, int]], str]:
    """What this process gives for all `CASES`, and its error for a set with one damaged image."""
    return [place(*case) for case in CASES], error_of(8)


@pytest.mark.parametrize(
    "world_size", [3, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_processes_share_the_images_and_place_the_centres_of_one(world_size):
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone, error = place_and_fail()
    torch.set_num_threads(num_threads)
    results = run_processes(world_size, place_and_fail)
    for number, (sharding, num_sub_centres, batch_size) in enumerate(CASES):
        _, expected, num_images = alone[number]
        placed = [placings[number] for placings, _ in results]
        held = [label for classes, _, _ in placed for label in classes]
        assert held == list(range(6)) * (1 if sharding == "sharded" else world_size)
        for classes, weight, _ in placed:
            rows = slice(classes.start * num_sub_centres, classes.stop * num_sub_centres)
            assert torch.equal(weight, expected[rows])
        assert sum(embedded for *_, embedded in placed) == num_images == 18
        num_batches = -(-18 // batch_size)
        assert max(embedded for *_, embedded in placed) <= -(-num_batches // world_size) * batch_size
    errors = [found for _, found in results]
    assert error.startswith("DataError: noise.rec, record 8: does not decode; loader.on_corrupt=skip")
    assert sorted(errors)[0] == error  # of the process that met it
    says = f"OtherProcessError: process {errors.index(error)}: {error.removeprefix('DataError: ')}"
    assert sorted(errors)[1:] == [says] * (world_size - 1)
