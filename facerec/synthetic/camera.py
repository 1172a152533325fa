"""Adds the camera's effects to a synthetic photo: exposure, white balance, contrast, blur and noise."""

from functools import cache

import cv2
import numpy as np

from facerec.synthetic.identity import Identity, Sample

_LUMINANCE = (0.30, 0.59, 0.11)
_GREY = 118.0
_WANTED_BRIGHTNESS = 150.0
_NOISE_LEVELS = (3, 6, 10, 16)
_NOISE_SHIFTS = 64


def take_photo(scene: np.ndarray, sample: Sample, person: Identity) -> np.ndarray:
    """Develops a painted scene.

    The exposure follows the brightness of the face, as cameras do, so that skin tones under all lights overlap.

    Args:
        scene: uint8 (H, W, 3), RGB, as painted.
        sample: has the camera's settings.
        person: the person whose face sets the exposure.

    Returns:
        uint8 (H, W, 3).
    """
    light = zip(_LUMINANCE, person.skin, sample.ambient_colour, sample.light_colour, strict=True)
    brightness = sum(weight * skin * (0.75 * ambient + 0.5 * key) for weight, skin, ambient, key in light)
    gain = sample.exposure * sample.contrast * (_WANTED_BRIGHTNESS / max(brightness, 20.0)) ** 0.65
    rows = []
    for channel, balance in enumerate((1 + sample.white_balance[0], 1.0, 1 + sample.white_balance[1])):
        row = [gain * balance * (1 - sample.saturation) * weight for weight in _LUMINANCE]
        row[channel] += gain * balance * sample.saturation
        rows.append([*row, _GREY * (1 - sample.contrast)])
    photo = cv2.transform(scene, np.array(rows))
    if sample.blur_px:
        photo = cv2.GaussianBlur(photo, (5, 5), sample.blur_px)
    # Two shifted windows of one tile, added and subtracted, make noise around zero without drawing any numbers.
    size = len(photo)
    tile = _noise_tile(_NOISE_LEVELS[int(sample.noise * len(_NOISE_LEVELS))], size + _NOISE_SHIFTS)
    x, y, other_x, other_y = (_NOISE_SHIFTS * sample.texture[-4:]).astype(int).tolist()
    photo = cv2.add(photo, tile[y : y + size, x : x + size])
    return cv2.subtract(photo, tile[other_y : other_y + size, other_x : other_x + size])


@cache
def _noise_tile(level: int, size: int) -> np.ndarray:
    """Returns uint8 (size, size, 3), uniform in 0 .. level - 1; the same for all data sets."""
    return np.random.Generator(np.random.Philox(key=[level, size])).integers(0, level, (size, size, 3), dtype=np.uint8)
