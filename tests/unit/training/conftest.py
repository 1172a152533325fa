"""Trainers in folders of their own."""

from collections.abc import Callable, Iterator

import pytest
import torch

from facerec.training.trainer import Trainer
from tests.unit.training.trainers import build_trainer


@pytest.fixture
def make_trainer(tmp_path) -> Iterator[Callable[..., Trainer]]:
    """`make_trainer(run="a", **parts)`, see `build_trainer`; the run directory is `tmp_path / run`."""
    num_threads = torch.get_num_threads()
    yield lambda run="run", **parts: build_trainer(tmp_path / run, **parts)
    torch.set_num_threads(num_threads)
