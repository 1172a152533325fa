"""Distillation compares with a teacher's embeddings, and the teacher is no part of what is trained or saved."""

import numpy as np
import pytest
import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.losses.distillation import Distillation
from tests.unit.losses.term_inputs import term_inputs

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8))


class Teacher:
    """Embeds by the mean of every channel, and keeps what it was given."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.images = images
        return images.mean(axis=(1, 2)).astype(np.float32)


def test_value_is_one_minus_the_mean_cosine_and_the_gradient_turns_towards_the_teacher():
    teacher = Teacher()
    emb_BD = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-1.0, -1.0, -1.0]], requires_grad=True)
    value = Distillation(teacher=teacher)(term_inputs(emb_BD, [0, 1, 2], images=IMAGES))
    assert teacher.images.dtype == np.uint8 and np.array_equal(teacher.images, IMAGES.numpy())

    def loss(x: np.ndarray) -> float:
        t = IMAGES.numpy().mean(axis=(1, 2))
        return np.mean([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, t, strict=True)])

    x = emb_BD.detach().double().numpy()
    assert value.item() == pytest.approx(loss(x), abs=1e-6)
    value.backward()
    assert loss(x - 0.1 * emb_BD.grad.double().numpy()) < loss(x)


def test_a_network_as_teacher_is_neither_trained_nor_saved_nor_changed():
    class Embedder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 3))
            self.embed = NetworkEmbedder(network=self.network, input_spec=InputSpec(height_px=4, width_px=4))

        def forward(self, images: np.ndarray) -> np.ndarray:
            return self.embed(images)

    teacher = Embedder()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    term = Distillation(teacher=teacher)
    emb_BD = torch.ones(3, 3, requires_grad=True)
    term(term_inputs(emb_BD, [0, 1, 2], images=IMAGES)).backward()
    assert list(term.parameters()) == [] and term.state_dict() == {}
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert (emb_BD.grad != 0).any()


def test_teacher_of_another_size_is_refused_with_the_mend():
    with pytest.raises(ConfigError, match=r"of 3 dimensions, the network 5: set neck\.embedding_dim=3"):
        Distillation(teacher=Teacher())(term_inputs(torch.ones(3, 5), [0, 1, 2], images=IMAGES))
