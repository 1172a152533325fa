"""What will be read soon is told to the system: the own samples of a stretch and the next, in the order of the file."""

import os
import time

import numpy as np
import pytest

from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.data.records.recordio import write_record_set
from facerec.data.sampling.sampler import SampleOrder
from facerec.data.sources import RecordSource, Subset
from tests.noise_source import NoiseSource

BLOCKS = SampleOrder(shuffle="blocks", block_size=5, blocks_mixed=2)


class TellingSource(NoiseSource):
    """Keeps what it is told, and what was read by then."""

    def __init__(self) -> None:
        super().__init__(num_classes=10, images_per_class=10, size_px=8)
        self.told: list[list[int]] = []

    def will_read(self, indices: np.ndarray) -> None:
        self.told.append(indices.tolist())


def read(source, order: SampleOrder, *, first_step: int = 0, end_step: int = 12, **arguments) -> BatchLoader:
    loader = BatchLoader(
        source=source, augment=Augment(), global_batch_size=4, micro_batch_size=2, seed=1, order=order, **arguments
    )
    list(loader.batches(first_step=first_step, end_step=end_step))
    return loader


@pytest.mark.parametrize("first_step", [0, 7])
def test_every_sample_is_told_before_it_is_read_in_the_order_of_the_file(first_step):
    source = TellingSource()
    loader = read(source, BLOCKS, first_step=first_step, end_step=first_step + 12)
    assert [told == sorted(set(told)) for told in source.told] == [True] * len(source.told)
    for number, told in enumerate(source.told):  # 10 samples are mixed: 2 steps
        steps = range(first_step + 2 * number, first_step + 2 * number + 2)
        assert set(told) == {index for step in steps for index in loader.sampler.indices(step).tolist()}
    assert len(source.told) in (6, 7)  # all that was read; the next stretch is given up if the end comes first


def test_first_samples_are_told_to_the_whole_set():
    """data.first_samples with data.shuffle=blocks."""
    source = TellingSource()
    loader = read(Subset(source=source, indices=range(40)), BLOCKS, end_step=6)
    steps = [{int(index) for step in (2 * n, 2 * n + 1) for index in loader.sampler.indices(step)} for n in range(3)]
    assert [set(told) for told in source.told[:3]] == steps


def test_nothing_is_told_of_a_global_shuffle():
    source = TellingSource()
    read(source, SampleOrder())
    assert source.told == []


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system cannot say what it holds in memory")
def test_records_are_in_memory_before_they_are_read(tmp_path):
    random = np.random.default_rng(1)
    images = [[random.bytes(30_000) for _ in range(40)] for _ in range(5)]
    write_record_set(tmp_path, images)
    source = RecordSource(root=str(tmp_path))
    offsets = source._reader.offsets
    with open(tmp_path / "train.rec", "rb") as file:
        os.fsync(file.fileno())

        def held(samples) -> list[bool]:
            return [_is_held(file.fileno(), int(offsets[1 + sample]), 30_000) for sample in samples]

        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if any(held(range(200))):
            pytest.skip("this file system keeps all it has in memory")
        wanted = np.array([150, 3, 152, 4, 60])
        source.will_read(wanted)
        deadline = time.monotonic() + 20
        while not all(held(wanted)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert held(wanted) == [True] * 5


def _is_held(fd: int, start: int, size: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(size)], start, os.RWF_NOWAIT) == size
    except OSError:
        return False
