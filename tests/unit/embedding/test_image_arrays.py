"""Images are taken as people have them, and what cannot be meant is refused by the shape that was passed."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facerec.core.errors import DataError, ModelError
from facerec.embedding.image_arrays import rgb_batch

SIZE = (8, 6)
RGB = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
GREY = RGB[..., 0]
IN_THREE = np.stack([GREY] * 3, axis=-1)
ALPHA = np.concatenate([RGB, GREY[..., None]], axis=-1)


RAGGED = np.empty(2, dtype=object)
RAGGED[0], RAGGED[1] = RGB[0], RGB[1]
TAKEN = {
    "a batch": (RGB, RGB),
    "a view in the other order of channels": (RGB[..., ::-1], RGB[..., ::-1].copy()),
    "a mirrored view of every second": (RGB[::-2, :, ::-1], RGB[::-2, :, ::-1].copy()),
    "Fortran's order": (np.asfortranarray(RGB), RGB),
    "one image": (RGB[0], RGB[:1]),
    "one image as a view": (RGB[0][..., ::-1], RGB[:1, ..., ::-1].copy()),
    "grey (B, H, W)": (GREY, IN_THREE),
    "grey (B, H, W, 1)": (GREY[..., None], IN_THREE),
    "grey (H, W)": (GREY[0], IN_THREE[:1]),
    "grey (H, W, 1)": (GREY[0][..., None], IN_THREE[:1]),
    "RGBA": (ALPHA, RGB),
    "one RGBA": (ALPHA[0], RGB[:1]),
    "a tensor": (torch.from_numpy(RGB), RGB),
    "a tensor that is a view": (torch.from_numpy(RGB).flip(0).transpose(1, 2).transpose(1, 2), RGB[::-1].copy()),
    "a list": (list(RGB), RGB),
    "a tuple of views": (tuple(RGB[..., ::-1]), RGB[..., ::-1].copy()),
    "an iterator": (iter(RGB), RGB),
    "an array of objects": (RAGGED, RGB[:2]),
    "a list of batches of one": ([RGB[:1], RGB[1:2]], RGB[:2]),
    "a list of many kinds": ([GREY[0], RGB[1], ALPHA[2]], np.stack([IN_THREE[0], RGB[1], RGB[2]])),
    "tensors and PIL": ([torch.from_numpy(RGB[0]), Image.fromarray(RGB[1])], RGB[:2]),
    "PIL": (Image.fromarray(RGB[0]), RGB[:1]),
    "PIL, RGBA": (Image.fromarray(ALPHA[0]), RGB[:1]),
    "PIL, grey": (Image.fromarray(GREY[0]), IN_THREE[:1]),
}


@pytest.mark.parametrize("what", TAKEN)
def test_images_of_every_kind_become_one_contiguous_batch(what):
    images, expected = TAKEN[what]
    found = rgb_batch(images, size_px=SIZE)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        (RGB / 255, ModelError, r"images is float64 \(5, 8, 6, 3\); .*normalises pixels itself.*from 0 to 1\)"),
        (torch.zeros(5, 3, 8, 6), ModelError, r"images is float32 \(5, 3, 8, 6\); .*0 \.\.\. 1 or -1 \.\.\. 1"),
        ([RGB[0], RGB[1].astype(np.float16)], ModelError, r"images\[1\] is float16 \(8, 6, 3\)"),
        (RGB.astype(np.int64), ModelError, r"images is int64 .*pass the 8-bit pixels"),
        (RGB.transpose(0, 3, 1, 2), ModelError, r"\(5, 3, 8, 6\), with the channels first.*x\.transpose\(0, 2, 3, 1\)"),
        (torch.zeros(2, 1, 8, 6, dtype=torch.uint8), ModelError, r"\(2, 1, 8, 6\), with the channels first"),
        (RGB[0].transpose(2, 0, 1), ModelError, r"\(3, 8, 6\): one image with the channels first, or three grey"),
        (np.zeros((250, 250, 3), np.uint8), ModelError, r"uint8 \(250, 250, 3\).*8 x 6 pixels.*facerec align"),
        (np.zeros((300, 9, 9, 3), np.uint8), ModelError, r"uint8 \(300, 9, 9, 3\)"),
        ([RGB[0], RGB[1, 1:]], DataError, r"several sizes: images\[0\] is \(8, 6, 3\), images\[1\] is \(7, 6, 3\)"),
        ([RGB[0], RGB[1:3]], ModelError, r"images\[1\] is \(2, 8, 6, 3\), 2 images"),
        ([], DataError, "no image"),
        (RGB[:0], DataError, r"no image.*\(0, 8, 6, 3\)"),
        ("a.jpg", DataError, r"a\.jpg: cannot be read \(No such file"),
        ([RGB[0], Path("a.jpg")], DataError, r"a\.jpg: cannot be read \(No such file"),
        (Path(__file__).parent, DataError, r"embedding: a folder; expected an image file: pass the paths of the files"),
        (__file__, DataError, r"test_image_arrays\.py: \d+ bytes that do not decode as an image"),
        (None, ModelError, "images is a NoneType; expected the path of an image file, a uint8 array"),
        (b"a.jpg", ModelError, "images is a bytes"),
        ([[1, 2], [3]], ModelError, r"images\[0\] is a list"),
        (Image.new("I", (6, 8)), ModelError, "mode I, with more than 8 bits"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_shape_that_was_passed(images, error, says):
    with pytest.raises(error, match=says):
        rgb_batch(images, size_px=SIZE)


def test_paths_are_read_alone_and_among_arrays(tmp_path):
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), RGB[index][..., ::-1])
    one, two = tmp_path / "0.png", str(tmp_path / "1.png")
    assert np.array_equal(rgb_batch(one, size_px=SIZE), RGB[:1])
    assert np.array_equal(rgb_batch([one, two, RGB[2], Image.fromarray(RGB[3])], size_px=SIZE), RGB[:4])
    with pytest.raises(DataError, match=rf"several sizes: images\[0\] is \(5, 6, 3\), {two} is \(8, 6, 3\)"):
        rgb_batch([RGB[0, 3:], two], size_px=SIZE)
    with pytest.raises(ModelError, match=rf"{one} is uint8 \(8, 6, 3\); this network takes uint8 RGB crops of 9 x 9"):
        rgb_batch(one, size_px=(9, 9))
