"""A network embeds the same however its images are batched, and is left as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from facerec.core.errors import DataError, ModelError
from facerec.core.input_spec import InputSpec
from facerec.embedding.network_embedder import NetworkEmbedder

SPEC = InputSpec(height_px=8, width_px=6)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(96, 5))


def _images(num: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 8, 6, 3), dtype=np.uint8)


def _expected(network: nn.Module, images: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        pixels = torch.tensor((images.astype(np.float32) - 127.5) / 127.5)
        return network(pixels.permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_embeddings_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    embed = NetworkEmbedder(network=_network(), input_spec=SPEC, batch_size=batch_size)
    found = embed(_images())
    assert (found.dtype, found.shape) == (np.float32, (7, 5))
    np.testing.assert_allclose(found, _expected(_network(), _images()), atol=1e-6)


def test_lists_and_read_only_arrays_are_taken() -> None:
    embed = NetworkEmbedder(network=_network(), input_spec=SPEC)
    read_only = _images()
    read_only.setflags(write=False)
    np.testing.assert_array_equal(embed(list(_images())), embed(read_only))


def test_view_of_opencvs_pixels_embeds_as_its_copy_to_the_bit() -> None:
    embed = NetworkEmbedder(network=_network(), input_spec=SPEC)
    view = _images()[..., ::-1]
    np.testing.assert_array_equal(embed(view), embed(view.copy()))
    np.testing.assert_array_equal(embed(view[0]), embed(view[:1].copy()))
    np.testing.assert_array_equal(embed(torch.from_numpy(_images())), embed(_images()))


def test_flip_adds_the_embedding_of_the_mirror_image() -> None:
    expected = _expected(_network(), _images()) + _expected(_network(), _images()[:, :, ::-1])
    flipped = NetworkEmbedder(network=_network(), input_spec=SPEC, flip=True)(_images())
    assert flipped.dtype == np.float32
    np.testing.assert_allclose(flipped, expected, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_stream_yields_what_calls_return_batch_by_batch(flip: bool) -> None:
    embed = NetworkEmbedder(network=_network(), input_spec=SPEC, batch_size=2, flip=flip)
    batches = [_images(3), _images(1), _images(7)]
    for found, batch in zip(embed.stream(batches), batches, strict=True):
        np.testing.assert_array_equal(found, embed(batch))


def test_network_is_left_as_it_was() -> None:
    network = _network().train()
    network[1].eval()  # a frozen batch normalisation stays frozen
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = NetworkEmbedder(network=network, input_spec=SPEC)(_images())
    np.testing.assert_allclose(found, _expected(_network(), _images()), atol=1e-6)  # fp32 under autocast, too
    assert [module.training for module in network] == [True, False, True, True, True]
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_network_is_left_training_when_it_fails() -> None:
    network = _network().train()
    with pytest.raises(ModelError, match="align"):
        NetworkEmbedder(network=network, input_spec=SPEC)(np.zeros((1, 9, 9, 3), dtype=np.uint8))
    assert all(module.training for module in network.modules())


def test_images_that_do_not_fit_are_refused() -> None:
    embed = NetworkEmbedder(network=_network(), input_spec=SPEC)
    with pytest.raises(ModelError, match="takes uint8 RGB"):
        embed(_images().astype(np.float32))
    with pytest.raises(DataError, match="several sizes"):
        embed([np.zeros((8, 6, 3), np.uint8), np.zeros((6, 8, 3), np.uint8)])
    with pytest.raises(DataError, match="no image"):
        embed([])


def test_bgr_networks_get_bgr() -> None:
    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    rgb = np.zeros((1, 8, 6, 3), dtype=np.uint8)
    rgb[..., 0] = 255
    spec = InputSpec(height_px=8, width_px=6, channels="BGR")
    np.testing.assert_allclose(NetworkEmbedder(network=Mean(), input_spec=spec)(rgb), [[-1, -1, 1]])
