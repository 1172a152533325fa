"""What the loader hands out does not depend on who reads it, nor on where it begins."""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from facerec.core.errors import ConfigError, DataError
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.data.sampling.sampler import SampleOrder
from facerec.processes.group import Processes
from tests.noise_source import NoiseSource

FLIP_AND_NOISE = ({"HorizontalFlip": {"p": 0.5}}, {"GaussNoise": {"p": 1.0}})


ON_DEVICE = ({"HorizontalFlip": {"p": 0.5}}, {"ColorJitter": {"p": 0.9}}, {"Erasing": {"p": 0.5}})


def loader(*, num_workers: int = 0, source=None, transforms=FLIP_AND_NOISE, on_device=(), **sizes) -> BatchLoader:
    sizes = {"global_batch_size": 12, "micro_batch_size": 4, "seed": 1} | sizes
    source = source or NoiseSource(num_classes=5, images_per_class=4, size_px=8)
    augment = Augment(transforms=transforms, on_device=on_device)
    return BatchLoader(source=source, augment=augment, num_workers=num_workers, **sizes)


def contents(batches) -> list[tuple]:
    return [(b.step, b.micro_index, b.indices.tolist(), b.labels.tolist(), b.images.numpy().tobytes()) for b in batches]


def test_batches_are_as_the_contract_says():
    source = NoiseSource(num_classes=5, images_per_class=4, size_px=8)
    batches = list(loader(source=source, transforms=()).batches(first_step=2, end_step=4))
    assert [(b.step, b.micro_index) for b in batches] == [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]
    for batch in batches:
        assert len(batch) == 4
        assert batch.images.dtype == torch.uint8 and batch.images.shape == (4, 8, 8, 3)
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
        for image, label, index in zip(batch.images, batch.labels.tolist(), batch.indices.tolist(), strict=True):
            assert np.array_equal(image.numpy(), source.image(index)) and label == index // 4


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_content_does_not_depend_on_workers_nor_on_the_first_step(num_workers):
    expected = contents(loader().batches(first_step=0, end_step=5))
    assert contents(loader(num_workers=num_workers).batches(first_step=0, end_step=5)) == expected
    assert contents(loader(num_workers=num_workers).batches(first_step=3, end_step=5)) == expected[9:]


def test_processes_share_the_micro_batches_in_order():
    alone = contents(loader(global_batch_size=24).batches(first_step=2, end_step=4))
    shared = [
        contents(
            loader(global_batch_size=24, processes=Processes(rank=rank, world_size=3)).batches(first_step=2, end_step=4)
        )
        for rank in range(3)
    ]
    assert [part[0][:2] for part in shared] == [(2, 0), (2, 2), (2, 4)]
    assert sorted(item for part in shared for item in part) == alone


@pytest.mark.parametrize(
    ("world_size", "mend"),
    [(2, "set trainer.micro_batch_size to 6"), (5, "make data.global_batch_size a multiple of 20")],
)
def test_micro_batches_that_the_processes_cannot_share_are_refused(world_size, mend):
    with pytest.raises(ConfigError, match=rf"makes 3, which {world_size} processes cannot share evenly: {mend}"):
        loader(processes=Processes(world_size=world_size))


def test_micro_batches_cut_the_global_batch():
    whole = contents(loader(micro_batch_size=12).batches(first_step=1, end_step=2))
    parts = contents(loader(micro_batch_size=3).batches(first_step=1, end_step=2))
    assert [index for part in parts for index in part[2]] == whole[0][2]
    assert b"".join(part[4] for part in parts) == whole[0][4]


def test_a_sample_is_augmented_anew_in_every_epoch():
    seen: dict[int, set[bytes]] = {}
    for batch in loader(transforms=({"GaussNoise": {"p": 1.0}},)).batches(first_step=0, end_step=5):  # 3 epochs of 20
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
            seen.setdefault(index, set()).add(image.numpy().tobytes())
    assert set(seen) == set(range(20)) and all(len(images) == 3 for images in seen.values())


def test_no_steps_give_no_batches():
    assert list(loader().batches(first_step=4, end_step=4)) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_image_that_does_not_decode_is_a_data_error_that_names_it(num_workers):
    bad = int(loader().sampler.indices(1)[5])
    source = NoiseSource(num_classes=5, images_per_class=4, size_px=8, damaged=(bad,))
    batches = loader(source=source, num_workers=num_workers).batches(first_step=0, end_step=4)
    taken = []
    with pytest.raises(DataError) as raised:
        for batch in batches:
            taken.append((batch.step, batch.micro_index))
    assert taken == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert str(raised.value) == (
        f"noise.rec, record {bad}: does not decode; loader.on_corrupt=skip trains without such images, facerec "
        "inspect lists them all"
    )
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_transform_that_changes_the_size_is_named(num_workers):
    transforms = ({"HorizontalFlip": {}}, {"RandomScale": {"scale_limit": [0.5, 0.5], "p": 0.9}})
    with pytest.raises(ConfigError, match=r"augment\.transforms\[1\] \(RandomScale\) makes uint8 \(12, 12, 3\)"):
        list(loader(transforms=transforms, num_workers=num_workers).batches(first_step=0, end_step=1))


def test_images_of_two_sizes_are_a_data_error():
    class Uneven(NoiseSource):
        def image(self, index: int) -> np.ndarray:
            return super().image(index)[: 8 - index % 2]

    source = Uneven(num_classes=5, images_per_class=4, size_px=8)
    with pytest.raises(DataError, match=r"noise\.rec, record \d+: the image is uint8 .* align the photos first"):
        list(loader(source=source).batches(first_step=0, end_step=1))


def test_images_of_another_size_than_the_network_takes_name_the_keys():
    source = NoiseSource(num_classes=5, images_per_class=4, size_px=8)
    message = r"noise\.rec, record \d+: the image is 8 x 8 pixels; expected 8 x 12\. .*set input\.height_px=8"
    with pytest.raises(DataError, match=message):
        list(loader(source=source, size_px=(8, 12)).batches(first_step=0, end_step=1))
    fitting = loader(source=source, size_px=(8, 8))
    assert len(list(fitting.batches(first_step=0, end_step=1))) == fitting.num_micro_batches


@pytest.mark.parametrize(
    ("start_method", "num_workers"),
    [("fork", 1), ("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow), ("spawn", 2)],
)
def test_every_kind_of_transform_is_the_same_in_any_worker(start_method, num_workers, monkeypatch):
    """Real workers, with what albumentations draws from, what facerec's own transforms draw from, and a choice."""
    faces = [{"CropOnBlack": {"p": 1.0}}, {"LowResolution": {"p": 1.0}}, {"FaceMask": {"p": 1.0}}]
    transforms = (*FLIP_AND_NOISE, {"OneOf": {"transforms": faces, "p": 0.8}}, {"ColorJitter": {"p": 0.5}})
    sizes = {"transforms": transforms, "global_batch_size": 8}
    expected = contents(loader(**sizes).batches(first_step=0, end_step=4))
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", None)
    multiprocessing.set_start_method(start_method)
    assert contents(loader(num_workers=num_workers, **sizes).batches(first_step=0, end_step=4)) == expected
    assert len({images for *_, images in expected}) == 8


@pytest.mark.parametrize("images_per_identity", [None, 2])
def test_what_is_left_for_the_device_does_not_depend_on_processes_micro_batches_or_order(images_per_identity):
    def finished(**sizes) -> dict[int, bytes]:
        """Each sample of the steps 2 and 3 by its place in the stream, from the last micro-batch to the first."""
        sizes = {"transforms": (), "on_device": ON_DEVICE, "global_batch_size": 24} | sizes
        found = {}
        each = loader(order=SampleOrder(images_per_identity=images_per_identity), **sizes)
        for batch in reversed(list(each.batches(first_step=2, end_step=4))):
            for number, image in enumerate(each.finish(batch, batch.images)):
                found[24 * batch.step + each.micro_batch_size * batch.micro_index + number] = image.numpy().tobytes()
        return found

    expected = finished()
    assert sorted(expected) == list(range(48, 96)) and len(set(expected.values())) == 48
    assert finished(micro_batch_size=12) == finished(num_workers=1) == expected
    halves = [finished(processes=Processes(rank=rank, world_size=2)) for rank in (0, 1)]
    assert not halves[0].keys() & halves[1].keys() and halves[0] | halves[1] == expected


def test_nothing_left_for_the_device_leaves_the_batch_as_it_is():
    batches = loader()
    batch = next(batches.batches(first_step=0, end_step=1))
    assert batches.finish(batch, batch.images) is batch.images


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"micro_batch_size": 5}, r"trainer\.micro_batch_size=5 does not divide data\.global_batch_size=12"),
        ({"micro_batch_size": 0}, r"trainer\.micro_batch_size=0"),
        ({"global_batch_size": 0, "micro_batch_size": 0}, r"data\.global_batch_size=0"),
        ({"num_workers": -1}, r"loader\.num_workers=-1"),
    ],
)
def test_sizes_that_cannot_work_are_refused(sizes, says):
    with pytest.raises(ConfigError, match=says):
        loader(**sizes)


def children() -> set[int]:
    path = f"/proc/self/task/{threading.get_native_id()}/children"
    with open(path) as file:
        return {int(pid) for pid in file.read().split()}


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux's /proc")
def test_workers_outlive_signals_to_the_group_and_end_with_the_generator():
    before = children()
    batches = loader(num_workers=2).batches(first_step=0, end_step=30)
    taken = [next(batches) for _ in range(3)]
    workers = children() - before
    assert len(workers) == 2
    for pid in workers:  # as Ctrl-C in a terminal and scancel do
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    taken += [next(batches) for _ in range(60)]
    assert contents(taken) == contents(loader().batches(first_step=0, end_step=21))
    batches.close()
    deadline = time.monotonic() + 20
    while children() & workers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children() & workers
