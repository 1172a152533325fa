"""Class centres at the mean embeddings of their classes, against numpy."""

import logging

import numpy as np
import pytest
import torch

from facerec.core.errors import DataError, ModelError
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.heads.centres import ClassCentres
from facerec.training.class_means import start_at_class_means
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import EMBEDDING_DIM, SIZE_PX, small_network


class Uneven(NoiseSource):
    """Six identities with 1, 2, 3, 0, 4 and 7 images, in no order."""

    LABELS = np.array([5, 1, 4, 2, 5, 0, 5, 4, 2, 5, 1, 5, 4, 5, 4, 2, 5])

    def __init__(self, **arguments) -> None:
        super().__init__(num_classes=6, images_per_class=3, size_px=SIZE_PX, **arguments)

    @property
    def labels(self) -> np.ndarray:
        return self.LABELS

    def __len__(self) -> int:
        return len(self.LABELS)


@pytest.fixture
def embed():
    network = small_network(seed=4)
    return NetworkEmbedder(network=network, input_spec=network.input_spec)


def centres(**more) -> ClassCentres:
    return ClassCentres(num_classes=6, embedding_dim=EMBEDDING_DIM, init_std=0.02, seed=3, **more)


def means(embed, source, images_of) -> dict[int, np.ndarray]:
    """The mean of the normalised embeddings of `images_of[label]`, normalised, in float64."""
    found = {}
    for label, indices in images_of.items():
        emb_BD = np.concatenate([embed(source.image(index)[None]) for index in indices]).astype(np.float64)
        mean_D = (emb_BD / np.linalg.norm(emb_BD, axis=1, keepdims=True)).mean(axis=0)
        found[label] = mean_D / np.linalg.norm(mean_D)
    return found


@pytest.mark.parametrize(("batch_size", "num_threads"), [(4, 1), (5, 2), (40, 1)])
@pytest.mark.parametrize("num_sub_centres", [1, 3])
def test_centres_are_the_normalised_means(batch_size, num_threads, num_sub_centres, embed, caplog):
    source, found = Uneven(), centres(num_sub_centres=num_sub_centres)
    with caplog.at_level(logging.INFO, logger="facerec"):
        start_at_class_means(found, embed=embed, source=source, batch_size=batch_size, num_threads=num_threads)
    images_of = {label: np.flatnonzero(source.labels == label).tolist() for label in (0, 1, 2, 4, 5)}
    rows_CKD = found.weight.detach().view(6, num_sub_centres, EMBEDDING_DIM).numpy()
    for label, mean_D in means(embed, source, images_of).items():
        np.testing.assert_allclose(rows_CKD[label], np.tile(mean_D, (num_sub_centres, 1)), atol=2e-6)
    fresh = centres(num_sub_centres=num_sub_centres).weight.detach().view(6, num_sub_centres, EMBEDDING_DIM).numpy()
    np.testing.assert_array_equal(rows_CKD[3], fresh[3])
    assert "the means of 17 images of 5 identities; 1 without images are random" in caplog.text


def test_some_images_of_each_identity_are_evenly_spread(embed):
    source, found = Uneven(), centres()
    start_at_class_means(found, embed=embed, source=source, batch_size=4, images_per_identity=3)
    # of the 7 images of identity 5 the first, fourth and sixth; of the 4 of identity 4 the first, third and fourth
    images_of = {5: [0, 9, 13], 4: [2, 12, 14], 2: [3, 8, 15], 1: [1, 10], 0: [5]}
    for label, mean_D in means(embed, source, images_of).items():
        row_D = found.weight[label].detach().numpy()
        np.testing.assert_allclose(row_D / np.linalg.norm(row_D), mean_D, atol=1e-5)


def test_same_centres_in_every_run_and_the_network_is_left_as_it_was(embed):
    one, other = centres(), centres()
    embed.network.train()
    before = {name: value.clone() for name, value in embed.network.state_dict().items()}
    for found in (one, other):
        start_at_class_means(found, embed=embed, source=Uneven(), batch_size=4)
    assert torch.equal(one.weight, other.weight)
    assert all(torch.equal(value, before[name]) for name, value in embed.network.state_dict().items())
    assert embed.network.backbone.bn1.training and one.weight.requires_grad


@pytest.mark.parametrize("num_threads", [1, 3])
def test_image_that_does_not_decode_is_named(num_threads, embed):
    with pytest.raises(DataError, match=r"noise\.rec, record 8: does not decode"):
        start_at_class_means(centres(), embed=embed, source=Uneven(damaged=(8,)), batch_size=4, num_threads=num_threads)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_what_is_skipped_is_told_by_its_number_in_the_set(num_threads, embed):
    source = Uneven(damaged=(8, 9))
    arguments = {"embed": embed, "source": source, "images_per_identity": 3, "num_threads": num_threads}
    skipped = start_at_class_means(centres(), batch_size=4, on_corrupt="skip", **arguments)
    # of identity 2 the images 3, 8 and 15 are looked at, of identity 5 the images 0, 9 and 13
    assert [(one.step, one.index, one.by) for one in skipped] == [(0, 8, None), (0, 9, None)]
    assert {one.reason for one in skipped} == {f"noise.rec, record {number}: does not decode" for number in (8, 9)}


def test_images_of_another_size_are_refused(embed):
    source = NoiseSource(num_classes=6, images_per_class=2, size_px=32)
    with pytest.raises(ModelError, match=r"images is uint8 \(4, 32, 32, 3\); .* size=\[16,16\]"):
        start_at_class_means(centres(), embed=embed, source=source, batch_size=4)
