"""Synthetic faces: seeded, procedural photos of people who do not exist, prepared once as a training set."""

from functools import lru_cache

import numpy as np

from facerec.align.crops import align_crop
from facerec.data.synthetic_drawing import Painter
from facerec.data.synthetic_features import FaceModel
from facerec.data.synthetic_head import HeadSurface
from facerec.data.synthetic_identity import Identity, Sample

PHOTO_PX = 160


@lru_cache(maxsize=1)
def noise_tiles():
    rng = np.random.Generator(np.random.Philox(key=[7, 7]))
    return [rng.integers(0, n, (PHOTO_PX + 64, PHOTO_PX + 64, 3), dtype=np.uint8) for n in (4, 8, 14, 22)]


def camera(image, s, person):
    import cv2
    ambient, key = s.ambient_colour.tolist(), s.light_colour.tolist()
    luma = (0.3, 0.59, 0.11)
    bright = sum(w * c * (0.75 * a + 0.5 * k) for w, c, a, k in zip(luma, person.skin, ambient, key, strict=True))
    gain = s.exposure * s.contrast * (150.0 / max(bright, 20.0)) ** 0.65
    rows = []
    for channel, balance in enumerate((1 + s.white_balance[0], 1.0, 1 + s.white_balance[1])):
        row = [gain * balance * (1 - s.saturation) * share for share in luma]
        row[channel] += gain * balance * s.saturation
        rows.append([*row, 118 * (1 - s.contrast)])
    image = cv2.transform(image, np.array(rows))
    if s.blur_px:
        image = cv2.GaussianBlur(image, (5, 5), s.blur_px)
    tile = noise_tiles()[int(s.noise * 4)]
    x, y = (64 * s.texture[-2:]).astype(int).tolist()
    plus = tile[y : y + PHOTO_PX, x : x + PHOTO_PX]
    minus = tile[64 - y : 64 - y + PHOTO_PX, 64 - x : 64 - x + PHOTO_PX]
    return cv2.subtract(cv2.add(image, plus), minus)


class SyntheticFaces:
    def __init__(self, *, seed: int = 0, size_px: int = 112) -> None:
        self.seed, self.size_px = seed, size_px
        self._head = lru_cache(maxsize=4)(self._build_head)

    def _build_head(self, identity: int):
        return FaceModel(HeadSurface(Identity.draw(seed=self.seed, identity=identity)))

    def _sample(self, identity, sample):
        face = self._head(identity)
        return face, Sample.draw(seed=self.seed, identity=identity, sample=sample, person=face.head.person)

    def photo(self, identity: int, sample: int):
        return self._render(*self._sample(identity, sample))

    def _render(self, face, s):
        painter = Painter(face, s, photo_px=PHOTO_PX)
        return camera(painter.paint(), s, face.head.person), painter.landmarks()

    def crop(self, identity, sample):
        photo, points = self.photo(identity, sample)
        return align_crop(photo, points, size_px=self.size_px)

    def encoded(self, identity, sample):
        import cv2
        face, s = self._sample(identity, sample)
        photo, points = self._render(face, s)
        crop = align_crop(photo, points, size_px=self.size_px)
        return cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, s.jpeg_quality])[1].tobytes()
