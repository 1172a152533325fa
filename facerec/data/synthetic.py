"""Synthetic faces: seeded, procedural photos of people who do not exist, prepared once as a training set."""

from functools import lru_cache

import numpy as np

from facerec.align.crops import align_crop
from facerec.data.synthetic_drawing import draw_features, landmarks
from facerec.data.synthetic_head import HeadSurface, Pose
from facerec.data.synthetic_identity import Identity, Sample
from facerec.data.synthetic_styling import Styling, draw_background

PHOTO_PX = 184


@lru_cache(maxsize=1)
def noise_tiles():
    rng = np.random.Generator(np.random.Philox(key=[7, 7]))
    return [rng.integers(0, n, (PHOTO_PX + 64, PHOTO_PX + 64, 3), dtype=np.uint8) for n in (4, 8, 14, 22)]


def camera(image, s, person):
    import cv2
    luma = np.array([0.3, 0.59, 0.11])
    bright = float(luma @ (np.array(person.skin) * (0.75 * s.ambient_colour + 0.5 * s.light_colour)))
    gain = s.exposure * (150.0 / max(bright, 20.0)) ** 0.65
    w = np.array([1 + s.white_balance[0], 1.0, 1 + s.white_balance[1]])
    matrix = (s.saturation * np.eye(3) + (1 - s.saturation) * luma) * w[:, None] * (gain * s.contrast)
    offset = 118 * (1 - s.contrast) 
    image = cv2.transform(image, np.column_stack([matrix, np.full(3, offset)]))
    if s.blur_px:
        image = cv2.GaussianBlur(image, (5, 5), s.blur_px)
    tile = noise_tiles()[int(s.noise * 4)]
    x, y = s.texture_seed % 64, s.texture_seed // 64 % 64
    plus = tile[y : y + PHOTO_PX, x : x + PHOTO_PX]
    minus = tile[64 - y : 64 - y + PHOTO_PX, 64 - x : 64 - x + PHOTO_PX]
    return cv2.subtract(cv2.add(image, plus), minus)


class SyntheticFaces:
    def __init__(self, *, seed: int = 0, size_px: int = 112) -> None:
        self.seed, self.size_px = seed, size_px
        self._head = lru_cache(maxsize=4)(self._build_head)

    def _build_head(self, identity: int) -> HeadSurface:
        return HeadSurface(Identity.draw(seed=self.seed, identity=identity))

    def photo(self, identity: int, sample: int):
        head = self._head(identity)
        s = Sample.draw(seed=self.seed, identity=identity, sample=sample, person=head.person)
        return self._render(head, s)

    def _render(self, head, s):
        import cv2
        pose = Pose(s, photo_px=PHOTO_PX)
        image = draw_background(s, photo_px=PHOTO_PX)
        styling = Styling(head, s, pose, image)
        styling.draw_behind()
        draw_features(image, head, s, pose)
        styling.draw_front()
        field = head.light_field(s, pose, photo_px=PHOTO_PX)
        image = cv2.multiply(image, cv2.resize(field, image.shape[:2], interpolation=cv2.INTER_LINEAR), scale=1 / 128)
        image = camera(image, s, head.person)
        points = landmarks(head, s, pose) + s.jitter_px
        return image, points

    def crop(self, identity, sample):
        photo, points = self.photo(identity, sample)
        return align_crop(photo, points, size_px=self.size_px)

    def encoded(self, identity, sample):
        import cv2
        head = self._head(identity)
        s = Sample.draw(seed=self.seed, identity=identity, sample=sample, person=head.person)
        photo, points = self._render(head, s)
        crop = align_crop(photo, points, size_px=self.size_px)
        return cv2.imencode(".jpg", crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, s.jpeg_quality])[1].tobytes()
