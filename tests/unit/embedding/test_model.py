"""A model is anything that embeds; what computes is not seen from outside."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from facerec.core.input_spec import InputSpec
from facerec.core.metric import values_of
from facerec.data.verification_file import write_pairs
from facerec.embedding.embed_set import embed_set
from facerec.embedding.loop import Loop, embed_for_now
from facerec.embedding.model import Model, NetworkModel
from facerec.evaluation.verification import VerificationBenchmark
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import SIZE_PX, small_network


class Means(Model):
    """The mean colour of each quarter of an image, in NumPy alone."""

    def __init__(self) -> None:
        super().__init__(card={}, path=Path("means"))
        self.num_streamed = 0

    @property
    def input_spec(self) -> InputSpec:
        return InputSpec(height_px=SIZE_PX, width_px=SIZE_PX)

    def digest(self) -> str:
        return "none"

    def embed(self, images: Any) -> np.ndarray:
        quarters = np.asarray(images).reshape(len(images), 2, SIZE_PX // 2, 2, SIZE_PX // 2, 3)
        return quarters.mean(axis=(2, 4)).reshape(len(images), 12).astype(np.float32) - 128

    def stream(self, batches: Iterable[Any]) -> Iterator[np.ndarray]:
        for embeddings in super().stream(batches):
            self.num_streamed += 1
            yield embeddings


def test_model_of_ones_own_embeds_sets_and_is_scored(tmp_path):
    model, source = Means(), NoiseSource(num_classes=4, images_per_class=3, size_px=SIZE_PX)
    loop = Loop(batch_size=5, mirrored=True)
    stored = embed_set(source, model, tmp_path, loop, described=model.described(), dtype=np.float32)
    assert model.num_streamed == 6  # three batches, and their mirror images
    images = np.stack([source.image(index) for index in range(12)])
    expected = np.concatenate([model.embed(images), model.embed(images[:, :, ::-1])], axis=1)
    assert np.array_equal(stored.emb_ND, expected)
    assert np.array_equal(embed_for_now(source, model, loop).emb_ND, expected)

    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    write_pairs(tmp_path / "own.bin", [encoded[i] for i in (0, 0, 1, 2, 3, 3, 4, 5)], [True, False, True, False])
    figures = values_of(VerificationBenchmark(path=str(tmp_path / "own.bin"), num_folds=2).evaluate(model))
    assert figures["auc"] == 1


def test_digest_is_that_of_names_and_weights_wherever_they_lie(tmp_path):
    def model(seed: int, place: str, **more: Any) -> NetworkModel:
        return NetworkModel(network=small_network(seed=seed).eval(), card={}, path=tmp_path / place, **more)

    expected = hashlib.sha256()
    for name, values in small_network(seed=1).state_dict().items():
        expected.update(name.encode() + values.numpy().tobytes())
    assert model(1, "a").digest() == model(1, "b", flip=True).digest() == expected.hexdigest()
    assert model(2, "a").digest() != model(1, "a").digest()
    assert model(1, "a").described() != model(1, "a", flip=True).described()


def test_no_torch_network_is_seen_from_outside():
    model = NetworkModel(network=small_network(seed=1).eval(), card={}, path=Path("a"))
    assert not any(isinstance(getattr(model, name), torch.nn.Module) for name in dir(model) if name[0] != "_")
