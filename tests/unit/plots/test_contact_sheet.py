"""The contact sheet puts every image in its place."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.core.errors import DataError
from facerec.plots.contact_sheet import contact_sheet, image_grid

IMAGES = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)


def test_images_lie_row_by_row_on_white() -> None:
    sheet = image_grid(IMAGES, columns=3)
    assert sheet.shape == (2 * 4 + 2, 3 * 6 + 2 * 2, 3)
    for i in range(5):
        top, left = i // 3 * 6, i % 3 * 8
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 6], IMAGES[i])
    assert (sheet[4:6] == 255).all()
    assert (sheet[6:, 16:] == 255).all()  # the sixth place is empty


def test_fewer_images_than_columns_make_one_row() -> None:
    assert image_grid(IMAGES[:2], columns=9).shape == (4, 14, 3)


def test_written_file_holds_the_same_rgb_pixels(tmp_path: Path) -> None:
    contact_sheet(IMAGES, columns=2, path=tmp_path / "new" / "sheet.png")
    read = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    np.testing.assert_array_equal(read[:, :, ::-1], image_grid(IMAGES, columns=2))


def test_titles_stand_above_the_rows(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 40, 60, 3), dtype=np.uint8)
    contact_sheet(images, columns=3, path=tmp_path / "sheet.png", row_titles=["Zoë", "\udcff name"])
    read, grid = cv2.imread(str(tmp_path / "sheet.png"))[:, :, ::-1], image_grid(images, columns=3)
    assert read.shape == (grid.shape[0] + 2 * 20, grid.shape[1], 3)
    np.testing.assert_array_equal(np.concatenate([read[20:62], read[82:]]), grid)
    for strip in (read[:20], read[62:82]):
        assert (strip.min(axis=2) < 128).sum() > 20 and (strip[:, 100:] == 255).all()


def test_images_of_another_kind_are_refused() -> None:
    for images, columns in ((IMAGES.astype(float), 2), (IMAGES[0], 2), (IMAGES[:0], 2), (IMAGES, 0)):
        with pytest.raises(DataError, match="expected uint8"):
            image_grid(images, columns=columns)
