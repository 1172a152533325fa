"""Several processes share a benchmark's images: the figures of one to the bit, and errors that leave none waiting."""

from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from facerec.core.errors import FacerecError
from facerec.core.input_spec import InputSpec
from facerec.core.metric import values_of
from facerec.data.verification_file import write_pairs
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.evaluation import verification
from facerec.evaluation.verification import VerificationBenchmark
from facerec.processes.group import this_process
from tests.processes import run_processes

SIZE_PX, NUM_IMAGES = 16, 40
AT_ONCE = (6, 20, 512)
"""Images embedded at once: 7, 2 and 1 batches."""


class CountingEmbedder:
    """A network whose results depend in the last bits on the images that share a batch; counts the images."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE_PX**2 * 3, 64), nn.Tanh(), nn.Linear(64, 8))
        self.embed = NetworkEmbedder(network=network, input_spec=InputSpec(height_px=SIZE_PX, width_px=SIZE_PX))
        self.num_images = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.num_images += len(images)
        return self.embed(images)


def not_finite_where_black(images: np.ndarray) -> np.ndarray:
    """Embeds images as pixels, a black one as NaN."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return np.where(pixels.any(axis=1, keepdims=True), pixels, np.nan)


def write(path: Path, *, damaged: tuple[int, ...] = (), black: tuple[int, ...] = ()) -> None:
    """20 pairs of noise, every other of one image and its double with more noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (NUM_IMAGES, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    images[1::4] = images[0::4] + rng.integers(0, 50, images[1::4].shape, dtype=np.uint8)
    images[list(black)] = 0
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    for index in damaged:
        encoded[index] = b"no image"
    write_pairs(path, encoded, [True, False] * (NUM_IMAGES // 4))


def figures(path: str, embed: CountingEmbedder) -> dict[str, float]:
    """Those of the benchmark, with many thresholds: they are the distances of single pairs."""
    target_fars = [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
    return values_of(VerificationBenchmark(path=path, num_folds=5, target_fars=target_fars).evaluate(embed))


def error_of(path: str, embed) -> str:
    """What scoring a file raises in this process."""
    try:
        list(VerificationBenchmark(path=path, num_folds=5).evaluate(embed))
    except FacerecError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def fail_and_score(folder: str) -> tuple[list[str], list[tuple[dict[str, float], int]]]:
    """In this process: the errors of files that cannot be scored, then figures and images embedded for `AT_ONCE`."""
    # the process with number 1 does not find it
    missing = f"{folder}/nowhere.bin" if this_process().rank == 1 else f"{folder}/good.bin"
    with mock.patch.object(verification, "_IMAGES_AT_ONCE", AT_ONCE[0]):
        errors = [
            error_of(f"{folder}/one_damaged.bin", CountingEmbedder()),
            error_of(f"{folder}/two_damaged.bin", CountingEmbedder()),
            error_of(missing, CountingEmbedder()),
            error_of(f"{folder}/black.bin", not_finite_where_black),
        ]
    scored = []
    for at_once in AT_ONCE:
        embed = CountingEmbedder()
        with mock.patch.object(verification, "_IMAGES_AT_ONCE", at_once):
            scored.append((figures(f"{folder}/good.bin", embed), embed.num_images))
    return errors, scored


@pytest.mark.parametrize(
    "world_size", [3, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_processes_share_the_images_and_raise_together(world_size: int, tmp_path: Path) -> None:
    write(tmp_path / "good.bin")
    write(tmp_path / "one_damaged.bin", damaged=(31,))
    write(tmp_path / "two_damaged.bin", damaged=(2, 38))
    write(tmp_path / "black.bin", black=(31,))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _, alone = fail_and_score(str(tmp_path))
    torch.set_num_threads(num_threads)
    results = run_processes(world_size, fail_and_score, str(tmp_path))

    for number, at_once in enumerate(AT_ONCE):
        expected, _ = alone[number]
        assert 0.5 < expected["accuracy"] <= 1
        assert all(scored[number][0] == expected for _, scored in results)
        embedded = [scored[number][1] for _, scored in results]  # each image and its mirror image
        num_batches = -(-NUM_IMAGES // at_once)
        assert sum(embedded) == 2 * NUM_IMAGES and max(embedded) <= 2 * -(-num_batches // world_size) * at_once

    owner_of_31 = {2: 1, 3: 2, 4: 1}[world_size]  # image 31 is in the sixth of 7 batches
    one_damaged, two_damaged, missing, black = zip(*(errors for errors, _ in results), strict=True)
    assert_raised_by(owner_of_31, one_damaged, f"{tmp_path}/one_damaged.bin, image 31: 8 bytes that do not decode")
    assert_raised_by(0, two_damaged, f"{tmp_path}/two_damaged.bin, image 2: 8 bytes that do not decode")
    assert_raised_by(1, missing, f"{tmp_path}/nowhere.bin: cannot be opened")
    message = f"{tmp_path}/black.bin, image 31: its embedding is not finite"
    assert_raised_by(owner_of_31, black, message, kind="ModelError")


def assert_raised_by(finder: int, errors: tuple[str, ...], message: str, *, kind: str = "DataError") -> None:
    """The process that found the fault says what it is, the others say that it did."""
    for rank, error in enumerate(errors):
        raised = kind if rank == finder else f"OtherProcessError: process {finder}"
        assert error.startswith(f"{raised}: {message}")
