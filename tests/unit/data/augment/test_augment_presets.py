"""Every preset in configs/augment: reproducible, of the strength that it says, and kind to faces."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from facerec.data.augment import Augment
from facerec.data.sources import RecordSource
from facerec.synthetic.source import SyntheticFaces

PRESETS = sorted((Path(__file__).resolve().parents[4] / "configs" / "augment").glob("*.yaml"))
NUM = 120


def preset(path: Path) -> Augment:
    arguments: dict[str, Any] = yaml.safe_load(path.read_text())
    assert arguments.pop("_target_") == "facerec.data.augment.Augment"
    return Augment(**arguments)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """uint8 (6, 112, 112, 3): synthetic."""
    drawn = SyntheticFaces(seed=3)
    return np.stack([drawn.crop(identity, 0) for identity in range(6)])


def augmented(augment: Augment, faces: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Position p of the stream has face p % 6."""
    images = np.stack([augment(faces[position % len(faces)], seed=1, position=int(position)) for position in positions])
    return augment.on_device(torch.from_numpy(images), seed=1, positions=positions).numpy()


def unlike_both(images: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """bool (N,): neither the face nor its mirror image."""
    expected = faces[np.arange(len(images)) % len(faces)]
    same = [(images == other).all(axis=(1, 2, 3)) for other in (expected, expected[:, :, ::-1])]
    return ~(same[0] | same[1])


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_is_a_function_of_seed_and_place_in_the_stream(path, faces):
    augment = preset(path)
    augment.check(height_px=112, width_px=112)
    positions = np.arange(NUM)
    whole = augmented(augment, faces, positions)
    assert whole.shape == (NUM, 112, 112, 3) and whole.dtype == np.uint8
    some = positions[::-9]
    np.random.seed(4)  # what nobody may look at
    assert np.array_equal(augmented(preset(path), faces, some), whole[some])


@pytest.mark.parametrize(
    ("name", "share"),
    [  # of the samples that are more than mirrored
        ("none", 0.0),
        ("flip", 0.0),
        ("flip_on_device", 0.0),
        ("low_quality", 1 - 0.8**3),
        ("occlusion", 0.3),
        ("misaligned", 0.5),
        ("photometric", 1 - 0.5 * 0.8**3 * 0.9**2),
        ("photometric_on_device", 1 - 0.5 * 0.9**3),
        ("surveillance", 1 - 0.7 * 0.6 * 0.8 * 0.6 * 0.9),
    ],
)
def test_preset_changes_the_share_that_it_says(name, share, faces):
    (path,) = (path for path in PRESETS if path.stem == name)
    changed = unlike_both(augmented(preset(path), faces, np.arange(NUM)), faces).mean()
    assert changed == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / NUM) + 0.02)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_leaves_most_real_faces_recognisable(path, real_data):
    """Neither black nor white nor another picture: most crops still look like themselves or their mirror image."""
    source = RecordSource(root=str(real_data / "celeba_wild"))
    faces = np.stack([source.image(index * 53) for index in range(60)])
    seen = augmented(preset(path), faces, np.arange(60)).astype(float)
    levels = seen.mean(axis=(1, 2, 3))
    assert (levels < 12).mean() <= 0.04 and (levels > 245).mean() <= 0.04
    likeness = []
    for one, face in zip(seen, faces.astype(float), strict=True):
        small = [np.abs(np.fft.fft2(image.mean(axis=2))[:4, :4]).ravel()[1:] for image in (one, face)]
        likeness.append(np.corrcoef(*small)[0, 1])
    assert np.median(likeness) > 0.9 and np.mean(np.array(likeness) > 0.5) > 0.8
