"""The preprocessing that travels with a model."""

import pytest
import torch

from facerec.core.errors import ModelError
from facerec.core.input_spec import InputSpec


def images() -> torch.Tensor:
    return torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_become_x_minus_127_5_over_127_5_in_channels_last_memory(dtype):
    pixels = InputSpec(height_px=4, width_px=5).normalise(images(), dtype=dtype)
    assert pixels.dtype == dtype and pixels.shape == (2, 3, 4, 5)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, (images().permute(0, 3, 1, 2).to(dtype) - 127.5) / 127.5)
    ends = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 4, 5, 3)
    assert InputSpec(height_px=4, width_px=5).normalise(ends)[:, 0, 0, 0].tolist() == [-1.0, 1.0]


def test_bgr_networks_see_the_channels_swapped():
    rgb = InputSpec(height_px=4, width_px=5).normalise(images())
    bgr = InputSpec(height_px=4, width_px=5, channels="BGR").normalise(images())
    assert torch.equal(bgr, rgb.flip(1)) and not torch.equal(bgr, rgb)


def test_images_are_left_as_they_are():
    given = images()
    InputSpec(height_px=4, width_px=5, channels="BGR").normalise(given)
    assert torch.equal(given, images())


@pytest.mark.parametrize("bad", [images().float(), images()[0], images()[:, :3], images()[..., :1]])
def test_other_images_are_refused_with_both_shapes(bad):
    with pytest.raises(ModelError, match=r"takes uint8 RGB \(batch, 4, 5, 3\)"):
        InputSpec(height_px=4, width_px=5).normalise(bad)


def test_stored_spec_comes_back():
    spec = InputSpec(height_px=96, width_px=80, channels="BGR", mean=1.0, std=2.0)
    assert InputSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ModelError, match="colour"):
        InputSpec.from_json({**spec.to_json(), "colour": "RGB"})


@pytest.mark.parametrize("wrong", [{"channels": "rgb"}, {"std": 0.0}, {"width_px": 0}])
def test_specs_that_cannot_work_are_refused(wrong):
    with pytest.raises(ModelError, match=next(iter(wrong))):
        InputSpec(**wrong)


@pytest.mark.parametrize("spec", [{}, {"channels": "BGR"}, {"mean": 123.7, "std": 58.4}, {"mean": 0.0, "std": 255.0}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_denormalising_gives_every_pixel_back(spec, dtype):
    given = torch.arange(256 * 3, dtype=torch.int32).remainder(256).to(torch.uint8).reshape(1, 16, 16, 3)
    given[..., 1] += 7  # so that swapped channels are seen
    network_spec = InputSpec(height_px=16, width_px=16, **spec)
    back = network_spec.denormalise(network_spec.normalise(given, dtype=dtype))
    assert back.dtype == torch.uint8 and torch.equal(back, given)
