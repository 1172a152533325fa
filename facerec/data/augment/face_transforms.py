"""Transforms of aligned face crops that albumentations does not have, on numpy arrays.

Each is called with an image, uint8 (H, W, 3) RGB, and a numpy generator, returns a new image of the same shape, and
does not modify the input. The template of the alignment gives the places of eyes, nose and mouth.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from facerec.align.similarity import template
from facerec.data.augment.transform_list import check_range

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_TRIES = 10
_FINE = 4  # shapes are painted at four times the size
_SHIFT, _SUBPIXELS = 4, 16  # lines are drawn at sixteenths of a pixel


class CropOnBlack:
    """Keeps a random rectangle of the image in its place, and makes the rest black.

    So the face stays in its aligned place. This is the `crop` augmentation of AdaFace's released code (Kim et al.,
    arXiv 2204.00964), with the rectangle drawn as in torchvision's RandomResizedCrop.

    Args:
        scale: smallest and largest area of the rectangle, as a share of the image's.
        ratio: smallest and largest width / height; drawn uniformly in its logarithm.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(self, *, scale: Sequence[float] = (0.2, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)) -> None:
        self.scale = check_range("CropOnBlack.scale", scale, low=0.01, high=1.0)
        self.ratio = check_range("CropOnBlack.ratio", ratio, low=0.1, high=10.0)

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Keeps a random rectangle; see `Transform`."""
        height, width = image.shape[:2]
        kept_height, kept_width = self._size(height, width, random)
        top = random.integers(0, height - kept_height, endpoint=True)
        left = random.integers(0, width - kept_width, endpoint=True)
        kept = (slice(top, top + kept_height), slice(left, left + kept_width))
        result = np.zeros_like(image)
        result[kept] = image[kept]
        return result

    def _size(self, height: int, width: int, random: np.random.Generator) -> tuple[int, int]:
        """Draws the size of the rectangle in pixels; returns the whole image if ten draws do not fit."""
        for _ in range(_TRIES):
            area = height * width * random.uniform(*self.scale)
            ratio = math.exp(random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            kept_width, kept_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < kept_width <= width and 0 < kept_height <= height:
                return kept_height, kept_width
        return height, width


class LowResolution:
    """Reduces the image and enlarges it again, each with an interpolation drawn from five.

    The result looks like a face that was photographed from afar. This is the `low_res` augmentation of AdaFace's
    released code (Kim et al., arXiv 2204.00964).

    Args:
        scale: smallest and largest side of the small image, as a share of the image's.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(self, *, scale: Sequence[float] = (0.2, 1.0)) -> None:
        self.scale = check_range("LowResolution.scale", scale, low=0.02, high=1.0)

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Makes the image coarse; see `Transform`."""
        height, width = image.shape[:2]
        scale = random.uniform(*self.scale)
        small, large = (INTERPOLATIONS[number] for number in random.integers(0, len(INTERPOLATIONS), 2))
        size = (max(1, int(scale * width)), max(1, int(scale * height)))
        return cv2.resize(cv2.resize(image, size, interpolation=small), (width, height), interpolation=large)


class Sunglasses:
    """Draws dark glasses over the eyes: two lenses and a bridge, of a random size, shape and colour.

    They are drawn at the eyes of the alignment's template, with facerec's own shapes.

    Args:
        opacity: smallest and largest weight of the glasses' colour; 1 hides the eyes.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(self, *, opacity: Sequence[float] = (0.8, 1.0)) -> None:
        self.opacity = check_range("Sunglasses.opacity", opacity, low=0.0, high=1.0)

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Paints sunglasses over the eyes; see `Transform`."""
        eyes, unit = template(*image.shape[:2])[:2], image.shape[0] / 112
        half_width, half_height = random.uniform(12.0, 16.0) * unit, random.uniform(8.0, 13.0) * unit
        roundness = random.uniform(2.0, 5.0)
        shift = random.uniform(-2.0, 2.0, 2) * unit
        shapes = [eye + shift + _superellipse(roundness) * (half_width, half_height) for eye in eyes]
        bridge_top, bridge_bottom = eyes[:, 1].mean() + shift[1] - np.array([4.0, 0.0]) * unit
        left, right = eyes[0, 0] + shift[0], eyes[1, 0] + shift[0]
        shapes.append(
            np.array([[left, bridge_top], [right, bridge_top], [right, bridge_bottom], [left, bridge_bottom]])
        )
        colour = random.uniform(0, 60) + random.uniform(-15, 15, 3)
        return _painted(image, shapes, colour, random.uniform(*self.opacity))


class FaceMask:
    """Draws a face mask: a plain cloth of a random colour over nose, mouth and chin.

    It is drawn at the landmarks of the alignment's template, down to the lower edge of the crop, like the masks of
    public generators such as MaskTheFace (Anwar and Raychowdhury, arXiv 2008.11104), without their textures.

    Args:
        height: smallest and largest height of the upper edge, from the mouth (0) to the eyes (1).

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(self, *, height: Sequence[float] = (0.55, 0.9)) -> None:
        self.height = check_range("FaceMask.height", height, low=0.0, high=1.0)

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Paints a mask over nose and mouth; see `Transform`."""
        rows = image.shape[0]
        points, unit = template(*image.shape[:2]), rows / 112
        eyes_y, nose_x, mouth_y = points[:2, 1].mean(), points[2, 0], points[3:, 1].mean()
        top = mouth_y + random.uniform(*self.height) * (eyes_y - mouth_y)
        droop = random.uniform(8.0, 16.0) * unit  # how far the edge falls from the nose to the cheeks
        half_width = random.uniform(32.0, 38.0) * unit
        chin = rows + random.uniform(-4.0, 6.0) * unit
        along = np.linspace(-1.0, 1.0, 17)[:, None]
        upper = np.hstack([nose_x + along * half_width, top + droop * along**2])
        lower = np.hstack([nose_x - along * half_width * 0.62, chin - 14.0 * unit * along**2])
        colour = np.clip(np.array(_CLOTHS[random.integers(len(_CLOTHS))]) + random.uniform(-20, 20, 3), 0, 255)
        painted = _painted(image, [np.vstack([upper, lower])], colour, 1.0)
        for fold in (0.35, 0.55, 0.75):  # folds distinguish cloth from a flat patch
            line = np.round((upper + (lower[::-1] - upper) * fold) * _SUBPIXELS).astype(np.int32)
            cv2.polylines(painted, [line], False, (colour * 0.88).tolist(), 1, cv2.LINE_AA, _SHIFT)
        return painted


class Hand:
    """Draws a patch like a hand in front of the face: a rotated ellipse or box, in a colour from the image's middle.

    It may be anywhere over the crop. It is like random erasing (Zhong et al., arXiv 1708.04896), but with the colour of
    skin, so that its colour does not give it away.

    Args:
        scale: smallest and largest length of the patch, as a share of the image's height.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(self, *, scale: Sequence[float] = (0.25, 0.6)) -> None:
        self.scale = check_range("Hand.scale", scale, low=0.01, high=1.0)

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Paints a hand over a part of the face; see `Transform`."""
        rows, columns = image.shape[:2]
        length = random.uniform(*self.scale) * rows
        half = np.array([length, length * random.uniform(0.3, 0.7)]) / 2
        roundness, angle = random.uniform(2.0, 6.0), random.uniform(0, np.pi)
        patch = _superellipse(roundness) * half
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        centre = random.uniform(0.1, 0.9, 2) * (columns, rows)
        middle = image[rows * 2 // 5 : rows * 4 // 5, columns * 3 // 10 : columns * 7 // 10]
        colour = np.median(middle.reshape(-1, 3), axis=0) * random.uniform(0.75, 1.2)
        return _painted(image, [centre + patch @ rotation], colour, 1.0)


FACE_TRANSFORMS: dict[str, type] = {
    cls.__name__: cls for cls in (CropOnBlack, LowResolution, Sunglasses, FaceMask, Hand)
}
"""By the names for configurations."""

# Surgical blue and green, white, black, grey, red, beige
_CLOTHS = [
    (120, 170, 205),
    (130, 190, 175),
    (225, 228, 230),
    (35, 35, 40),
    (120, 122, 125),
    (150, 50, 60),
    (205, 185, 160),
]


def _superellipse(roundness: float) -> np.ndarray:
    """Returns the curve |x|^r + |y|^r = 1, an ellipse for 2 and nearly a box for 6: float64 (48, 2)."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.sign(points) * np.abs(points) ** (2 / roundness)


def _painted(image: np.ndarray, shapes: Sequence[np.ndarray], colour: np.ndarray, opacity: float) -> np.ndarray:
    """Returns a copy of the image with polygons of one colour and smooth edges."""
    height, width = image.shape[:2]
    fine = np.zeros((height * _FINE, width * _FINE), dtype=np.uint8)  # OpenCV's own smooth edges have bumps
    for shape in shapes:
        cv2.fillPoly(fine, [np.round(shape * _FINE).astype(np.int32)], 255)
    cover = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    share = cover[:, :, None].astype(np.float32) * np.float32(opacity / 255)
    paint = np.clip(colour, 0, 255).astype(np.float32)
    return np.rint(image + share * (paint - image)).astype(np.uint8)
