"""Finds crops that show nothing: blank crops, and mostly black ones, as after wrong landmarks."""

import numpy as np

MOST_BLACK = 2 / 3
"""Share of the pixels. Photos cut close to the face give valid crops with up to 0.65 of black."""
BLACK = 8
"""The highest value of a pixel's channels that counts as black: a JPEG's black is not quite 0."""
LEAST_DEVIATION = 8.0
"""Standard deviation of all values, 0 to 255. The lowest of 26,248 crops of four sets is 16.8, a face in the dark."""
LEAST_DETAIL = 1.5
"""Standard deviation of the Laplacian, in a crop of 112. The lowest of these crops is 3.0; a few pixels of a photo that
are enlarged to a crop have less than 0.7."""
_HEIGHT_PX = 112


def emptiness(image: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Returns the fault of uint8 (H, W, 3) that shows nothing, as kind and text; or none."""
    black = float((image.max(axis=2) <= BLACK).mean())
    deviation, detail = float(image.std()), _detail(image)
    if deviation < LEAST_DEVIATION or detail < LEAST_DETAIL:
        what = f"it shows almost nothing: its values deviate by {deviation:.1f}, those of neighbours by {detail:.1f}"
        return (("blank", what),)
    if black > MOST_BLACK:
        return (("mostly black", f"{100 * black:.0f} % of it is black; do its landmarks belong to another photo?"),)
    return ()


def _detail(image: np.ndarray) -> float:
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    if height > _HEIGHT_PX:  # enlarged crops have less detail per pixel
        size_px = (max(1, round(width * _HEIGHT_PX / height)), _HEIGHT_PX)
        grey = cv2.resize(grey, size_px, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std())
