"""on_corrupt=skip: another sample takes the place of one that cannot be read, the same one on every machine."""

from dataclasses import astuple

import numpy as np
import pytest

from facerec.core.errors import ConfigError, DataError
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.processes.group import Processes
from tests.noise_source import NoiseSource

DAMAGED = (0, 1, 7, 12, 13, 14, 15)
"""Of 20 samples, 4 of each identity: two of the first, one of the second, all of the fourth."""


def source_of(damaged=DAMAGED) -> NoiseSource:
    return NoiseSource(num_classes=5, images_per_class=4, size_px=8, damaged=damaged)


def loader(*, damaged=DAMAGED, **arguments) -> BatchLoader:
    arguments = {"global_batch_size": 12, "micro_batch_size": 4, "seed": 1, "on_corrupt": "skip"} | arguments
    flip = Augment(transforms=({"HorizontalFlip": {"p": 0.5}},))
    return BatchLoader(source=source_of(damaged), augment=flip, **arguments)


def contents(batches) -> list[tuple]:
    return [(b.step, b.micro_index, b.indices.tolist(), b.labels.tolist(), b.images.numpy().tobytes()) for b in batches]


def test_next_readable_image_of_the_identity_takes_the_place():
    plain, skipping = loader(damaged=(), on_corrupt="error"), loader(damaged=(0, 1, 7))
    wanted = {0: 2, 1: 2, 7: 4}
    for before, after in zip(
        plain.batches(first_step=0, end_step=5), skipping.batches(first_step=0, end_step=5), strict=True
    ):
        assert after.indices.tolist() == [wanted.get(index, index) for index in before.indices.tolist()]
        assert after.labels.tolist() == before.labels.tolist()
    assert {(one.index, one.by) for one in skipping.replaced} == {(0, 2), (1, 2), (7, 4)}
    assert {one.reason for one in skipping.replaced if one.index == 7} == {"noise.rec, record 7: does not decode"}
    assert len(skipping.replaced) == 9  # three epochs


def test_an_identity_without_a_readable_image_gives_way_to_the_next_sample_of_the_micro_batch():
    skipping = loader(damaged=(12, 13, 14, 15))
    for batch in skipping.batches(first_step=0, end_step=5):
        wanted = skipping.sampler.indices(batch.step)[batch.micro_index * 4 :][:4].tolist()
        for place, (index, by) in enumerate(zip(wanted, batch.indices.tolist(), strict=True)):
            in_turn = [other for other in wanted[place:] + wanted[:place] if other // 4 != 3]
            assert by == (index if index // 4 != 3 else in_turn[0])
            assert batch.labels[place] == by // 4 and by // 4 in skipping.labels_of_step(batch.step)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_content_and_list_do_not_depend_on_workers_nor_on_the_first_step(num_workers):
    alone, with_workers = loader(), loader(num_workers=num_workers)
    expected = contents(alone.batches(first_step=0, end_step=5))
    assert contents(with_workers.batches(first_step=3, end_step=5)) == expected[9:]
    assert list(map(astuple, with_workers.replaced)) == [astuple(one) for one in alone.replaced if one.step >= 3]


def test_processes_skip_alike():
    alone = contents(loader(global_batch_size=24).batches(first_step=0, end_step=2))
    shares = [
        contents(
            loader(global_batch_size=24, processes=Processes(rank=rank, world_size=3)).batches(first_step=0, end_step=2)
        )
        for rank in range(3)
    ]
    assert sorted(item for share in shares for item in share) == alone


def test_a_micro_batch_of_nothing_readable_is_an_error():
    with pytest.raises(DataError, match=r"step 0: none of the 4 samples .* record \d+: does not decode"):
        list(loader(damaged=tuple(range(20))).batches(first_step=0, end_step=1))


def test_error_is_what_happens_unless_skipping_is_asked_for():
    with pytest.raises(DataError, match="does not decode"):
        list(loader(on_corrupt="error").batches(first_step=0, end_step=2))
    with pytest.raises(ConfigError, match=r"loader\.on_corrupt=ignore; expected error or skip"):
        loader(on_corrupt="ignore")


def test_samples_known_to_be_unreadable_are_not_read_again():
    reads = []

    class Counting(NoiseSource):
        def image(self, index: int) -> np.ndarray:
            reads.append(index)
            return super().image(index)

    counting = Counting(num_classes=5, images_per_class=4, size_px=8, damaged=(3,))
    skipping = BatchLoader(
        source=counting, augment=Augment(), global_batch_size=20, micro_batch_size=4, seed=1, on_corrupt="skip"
    )
    assert len(list(skipping.batches(first_step=0, end_step=3))) == 15
    assert reads.count(3) == 1 and len(reads) == 3 * 20 + 1
