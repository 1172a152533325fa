"""Crops that show nothing are found; faces in the dark and crops with much border are not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.align.crops import align_crop
from facerec.align.similarity import TEMPLATE_112
from facerec.data.sources import open_source
from facerec.inspection.empty_crops import emptiness
from tests.unit.inspection.inspections import inspected

NOISE = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
PHOTO = cv2.resize(NOISE, (250, 250))


def through_jpeg(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_COLOR)


def kinds(image: np.ndarray) -> list[str]:
    return [kind for kind, _ in emptiness(image)]


@pytest.mark.parametrize("size_px", [(112, 112), (112, 96), (256, 256), (64, 64)])
def test_blank_and_mostly_black_crops_are_found_in_any_size(size_px):
    def crop(landmarks: np.ndarray) -> np.ndarray:
        return through_jpeg(align_crop(PHOTO, landmarks, size_px=size_px))

    assert kinds(crop(TEMPLATE_112 + 1000)) == ["blank"]
    assert kinds(crop(TEMPLATE_112 / 200 + 100)) == ["blank"]  # a pixel or two, enlarged
    assert kinds(np.full((*size_px, 3), 130, dtype=np.uint8)) == ["blank"]
    assert kinds(crop(TEMPLATE_112 + 195)) == ["mostly black"]
    assert kinds(crop(TEMPLATE_112 + 150)) == []  # a quarter of it shows something, more than a third is not black
    assert kinds(crop(TEMPLATE_112 + 50)) == []
    assert kinds((crop(TEMPLATE_112 + 50) * 0.5).astype(np.uint8)) == []


def test_findings_are_faults_with_their_files(tmp_path):
    for name, image in {
        "Ann/0.png": PHOTO[:112, :112],
        "Ann/1.png": PHOTO[:112, :112] * 0,
        "Bob/2.png": align_crop(PHOTO, TEMPLATE_112 + 190),
    }.items():
        path: Path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    inspection, faults, _ = inspected(tmp_path / "crops")
    assert [(kind, file) for kind, file, *_ in faults] == [("blank", "Ann/1.png"), ("mostly black", "Bob/2.png")]
    assert "its values deviate by 0.0" in faults[0][3] and "% of it is black" in faults[1][3]
    assert inspection.found.is_sound_N.all()  # it can be trained on: whether it should, a person decides


def test_of_real_crops_next_to_none_is_found(real_data):
    source = open_source(str(real_data / "celeba_wild"))
    assert sum(bool(emptiness(source.image(index))) for index in range(0, len(source), 10)) == 0
