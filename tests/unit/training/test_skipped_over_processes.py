"""Samples that are skipped, and shuffled in blocks, over several processes: as in one."""

from pathlib import Path

import torch

from facerec.data.sampling.sampler import SampleOrder
from facerec.heads.combined import MarginHead
from facerec.training.optimizer import SGD
from tests.noise_source import NoiseSource
from tests.processes import run_processes
from tests.unit.training.trainers import EMBEDDING_DIM, build_trainer

ORDERS = [
    SampleOrder(shuffle="blocks", block_size=5, blocks_mixed=2),
    SampleOrder(sampling="identities"),
    SampleOrder(sampling="square_root", shuffle="blocks", block_size=5, blocks_mixed=2),
]
DAMAGED = (3, 9, 12, 13)


def train(folder: Path) -> list[tuple[torch.Tensor, list[int]]]:
    """For each of `ORDERS`: all that was trained, and the samples that this process has skipped."""
    outcomes = []
    for number, order in enumerate(ORDERS):
        trainer = build_trainer(
            folder / str(number),
            source=NoiseSource(num_classes=5, images_per_class=4, size_px=16, damaged=DAMAGED),
            order=order,
            head=MarginHead(num_classes=5, embedding_dim=EMBEDDING_DIM, m2=0.3, scale=16.0, seed=3),
            optimizer=SGD(lr=0.0005),  # at more, rounding errors grow: batch normalisation over 4 samples
            on_corrupt="skip",
            num_steps=3,
            global_batch_size=12,
            micro_batch_size=4,
            precision="fp64",
            device="cpu",
        )
        skipped: list[int] = []
        loader, batches = trainer.loader, trainer.loader.batches

        def noted(*, batches=batches, loader=loader, skipped=skipped, **steps):
            for batch in batches(**steps):
                skipped += [one.index for one in loader.replaced]
                yield batch

        loader.batches = noted  # type: ignore[method-assign]
        assert trainer.fit().finished
        outcomes.append((torch.cat([value.flatten() for value in trainer.network.state_dict().values()]), skipped))
    return outcomes


def test_processes_skip_and_shuffle_as_one(tmp_path):
    alone = train(tmp_path / "alone")
    together = run_processes(3, train, tmp_path / "together")
    for number in range(len(ORDERS)):
        expected, skipped = alone[number]
        assert len(set(skipped)) >= 3
        for outcomes in together:
            torch.testing.assert_close(outcomes[number][0], expected, rtol=0, atol=1e-9)
        assert len({tuple(outcomes[number][1]) for outcomes in together}) > 1  # each meets its own
        lists = [(tmp_path / kind / str(number) / "skipped.csv").read_text() for kind in ("alone", "together")]
        assert lists[0] == lists[1] and len(lists[0].splitlines()) == 1 + len(set(skipped))
