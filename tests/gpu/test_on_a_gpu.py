"""What only a GPU can show: `make test-gpu`."""

import math

import numpy as np
import pytest
import torch

from facerec.data.augment.device_augment import DeviceAugment
from facerec.data.augment.device_transforms import DEVICE_TRANSFORMS
from tests.numerics.conftest import HEAD_CONFIGS, build, read_head_config
from tests.unit.data.augment.test_device_augment import ALL, images
from tests.unit.data.augment.test_device_transforms import draws, noise
from tests.unit.training.trainers import EMBEDDING_DIM, build_trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: needs a GPU, and torch finds none")


@pytest.mark.parametrize("name", DEVICE_TRANSFORMS)
def test_transforms_give_the_bytes_of_the_cpu(name):
    transform = DEVICE_TRANSFORMS[name]()
    given, numbers = noise(64, 112, 112), draws(transform, 64)
    assert torch.equal(transform(given.cuda(), numbers).cpu(), transform(given, numbers))


def test_augmentation_gives_the_bytes_of_the_cpu():
    augment, given = DeviceAugment(transforms=ALL), images(256, 112)
    on_gpu = augment(given.cuda(), seed=1, positions=np.arange(256))
    assert on_gpu.is_cuda and torch.equal(on_gpu.cpu(), augment(given, seed=1, positions=np.arange(256)))


@pytest.mark.parametrize("engine", ["dense", "chunked"])
@pytest.mark.parametrize("path", HEAD_CONFIGS, ids=lambda path: path.stem)
def test_heads_train_and_resume(path, engine, tmp_path):
    head = read_head_config(path) | {"engine": engine}
    checkpoint = None
    for num_steps in (3, 5):
        trainer = build_trainer(
            tmp_path,
            head=build(head, num_classes=5, embedding_dim=EMBEDDING_DIM),
            device="cuda",
            precision="bf16",
            num_steps=num_steps,
            resume_from=checkpoint,
        )
        result = trainer.fit()
        checkpoint = result.checkpoint
    assert result.step == 5 and trainer.objective.head.centres.weight.is_cuda
    assert all(math.isfinite(value.abs().sum().item()) for value in trainer.objective.parameters())
