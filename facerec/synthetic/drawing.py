"""Paints synthetic photos: background, shoulders, ears, skin, features, hair, hats and glasses, then light."""

from collections.abc import Sequence

import cv2
import numpy as np

from facerec.synthetic.features import HAIR_ANGLES, HAT_ANGLES, SUBPIXEL_BITS, SUBPIXELS, FaceModel, Parts
from facerec.synthetic.head_surface import Poses
from facerec.synthetic.identity import Colour, Identity, Sample, mix, scaled
from facerec.synthetic.light import HeadLight

_SMOOTH = cv2.LINE_AA
_FAST = cv2.LINE_8  # for edges that something else will cover
_COVERS_EARS = ("bob", "long", "curly")
_HAIRLINES = {"fringe": "fringe", "swept": "parted", "bob": "parted", "long": "parted"}
# Thickness of the hair above the crown and beside the ears, in head units.
_THICKNESS = {
    "buzz": (0.03, 0.02),
    "short": (0.13, 0.05),
    "swept": (0.20, 0.06),
    "fringe": (0.15, 0.08),
    "bob": (0.16, 0.24),
    "long": (0.14, 0.24),
    "curly": (0.36, 0.36),
    "bun": (0.09, 0.03),
}
# Neck (6 points) and shoulders, in neck widths and head units below the chin.
_BODY = np.array(
    [[-0.9, -1.1], [-0.96, 0.15], [-1.15, 0.55], [1.15, 0.55], [0.96, 0.15], [0.9, -1.1]]
    + [[-4.2, 2.6], [-3.8, 1.0], [-2.8, 0.64], [-1.25, 0.42], [-0.82, 0.26], [-0.4, 0.5], [0, 0.58]]
    + [[0.4, 0.5], [0.82, 0.26], [1.25, 0.42], [2.8, 0.64], [3.8, 1.0], [4.2, 2.6]]
)
_DISC = np.stack([np.cos(np.linspace(0, 6.0, 20)), 0.85 * np.sin(np.linspace(0, 6.0, 20))], axis=1)
_INSET = np.linspace(0.02, 0.14, 14)[:, None]
_REACH = np.linspace(0.04, 0.92, 5)[:, None]
_SWAY = np.sin(np.pi * _REACH)


def draw_background(sample: Sample, *, photo_px: int) -> np.ndarray:
    """Paints a blurred room, wall or street: uint8 (photo_px, photo_px, 3)."""
    colours = (40 + 130 * sample.texture[:12, None] + 80 * sample.texture[12:48].reshape(12, 3)).astype(np.uint8)
    if sample.backdrop == "soft":
        small = colours[:9].reshape(3, 3, 3)
    else:
        small = cv2.resize(colours[:4].reshape(2, 2, 3), (40, 40), interpolation=cv2.INTER_LINEAR)
        places = (40 * sample.texture[48:72]).astype(int).reshape(8, 3).tolist()
        for colour, (x, y, size) in zip(colours[4:].tolist(), places, strict=True):
            if sample.backdrop == "blocks":
                cv2.rectangle(small, (x, y), (x + size // 2 + 2, y + size + 3), colour, -1)
            elif sample.backdrop == "lights":
                cv2.circle(small, (x, y), 2 + size // 8, mix(colour, (255, 250, 220), 0.4), -1)
            else:
                cv2.line(small, (x, -2), (x + size - 20, 42), colour, 2 + size // 8)
        small = cv2.blur(small, (5, 5))
    return cv2.resize(small, (photo_px, photo_px), interpolation=cv2.INTER_LINEAR)


class Painter:
    """Paints one photo, step by step; `image` is uint8 (photo_px, photo_px, 3), RGB.

    Args:
        sample, person: the sample and the identity to paint.
        parts: the outlines of the face in this photo, by name, in sub-pixels.
        outline: the border of the head in the view frame, (2, K, 2).
        to_px, offset_px: map from the view frame to pixels, (2, 2) and (2,).
        light: the field of colour factors over the photo.
    """

    image: np.ndarray

    def __init__(
        self,
        *,
        sample: Sample,
        person: Identity,
        parts: Parts,
        outline: np.ndarray,
        to_px: np.ndarray,
        offset_px: np.ndarray,
        light: np.ndarray,
    ) -> None:
        self.sample, self.person, self.parts = sample, person, parts
        self.skin, self.hair = person.skin, sample.hair_colour
        self._unit, self._origin = to_px * SUBPIXELS, offset_px * SUBPIXELS
        self._outline, self._border = outline, self._view(outline)
        self._hair = self._hair_border() if sample.hair_style != "bald" else None
        self._light_field = light

    def landmarks(self) -> np.ndarray:
        """Returns the five landmarks as detected, in pixels, in the order of the template: float64 (5, 2)."""
        return self.parts["landmarks"][0] / SUBPIXELS + self.sample.jitter_px

    def _draw_background(self, photo_px: int) -> None:
        self.image = draw_background(self.sample, photo_px=photo_px)

    def _draw_behind(self) -> None:
        if self._hair is not None and self.sample.hair_style in ("long", "bob"):
            self._fill(scaled(self.hair, 0.7), self._hanging_hair(self._hair))
        self._draw_body()
        self._draw_ear(far=True)
        self._fill(self.skin, np.concatenate([self._border[0], self._border[1, ::-1]]))

    def _draw_sides_and_top(self) -> None:
        if self.sample.hair_style in _COVERS_EARS:
            self._draw_ear(far=False)
        if self._hair is not None:
            self._draw_hair(self._hair)
        if self.sample.hair_style not in _COVERS_EARS:
            self._draw_ear(far=False)
        if self.sample.hat != "none":
            self._draw_hat()
        if self.sample.glasses != "none":
            self._draw_glasses()

    def _light(self) -> None:
        size = len(self.image)
        field = cv2.resize(self._light_field, (size, size), interpolation=cv2.INTER_LINEAR)
        self.image = cv2.multiply(self.image, field, scale=1 / 128)

    def _part(self, colour: Colour, name: str, *, width_px: int = 0, line_type: int = _SMOOTH) -> None:
        """Paints a part of the face: filled (width 0), or as lines."""
        shapes = self.parts[name]
        if shapes and width_px:
            cv2.polylines(self.image, shapes, False, colour, width_px, line_type, SUBPIXEL_BITS)
        elif shapes:
            cv2.fillPoly(self.image, shapes, colour, line_type, SUBPIXEL_BITS)

    def _fill(self, colour: Colour, *shapes: np.ndarray, line_type: int = _SMOOTH) -> None:
        """Fills polygons of float sub-pixels."""
        cv2.fillPoly(self.image, [shape.astype(np.int32) for shape in shapes], colour, line_type, SUBPIXEL_BITS)

    def _view(self, points: np.ndarray) -> np.ndarray:
        """Maps the view frame to sub-pixels."""
        return points @ self._unit.T + self._origin

    def _draw_eyes(self) -> None:
        p, skin = self.person, self.skin
        lash = mix(scaled(p.hair, 0.5), (24, 18, 16), 0.6)
        self._part(mix((226, 220, 216), skin, 0.22), "white")
        self._part(scaled(p.eyes, 0.55), "iris_rim")
        self._part(p.eyes, "iris")
        self._part((14.0, 12.0, 12.0), "pupil")
        if self.sample.eyelid > -0.35:
            self._part((250.0, 250.0, 250.0), "spark")
        self._part(scaled(skin, 0.95), "upper_lid", line_type=_FAST)
        self._part(skin, "lower_lid", line_type=_FAST)
        self._part(mix(skin, lash, 0.4), "lower_rim", width_px=1)
        self._part(lash, "lashes")
        if p.crease > 0:
            self._part(scaled(skin, 0.70), "crease", width_px=1)
        bag = 0.5 * p.eye_bag + 0.4 * p.age
        if bag > 0.25:
            self._part(scaled(skin, 1 - 0.4 * min(bag, 0.7)), "bag", width_px=1)

    def _draw_nose_and_marks(self) -> None:
        p, skin = self.person, self.skin
        self._part(mix(skin, (150, 84, 48), 0.45), "freckle")
        self._part(mix(scaled(skin, 0.3), (52, 30, 22), 0.5), "mole")
        self._part(mix(skin, (255, 205, 195), 0.28), "scar", width_px=1)
        self._part(scaled(skin, 1.0 - 0.28 * (p.age - 0.3)), "wrinkle", width_px=1)
        if p.fold_depth > 0.025 or p.age > 0.6 or self.sample.smile > 0.3:
            self._part(scaled(skin, 0.90 - 0.15 * p.age - 0.08 * self.sample.smile), "smile_fold", width_px=1)
        self._part(scaled(skin, 0.76), "nose_lines", width_px=1)
        self._part(mix(scaled(skin, 0.3), (50, 20, 16), 0.3), "nostril")

    def _draw_brows(self) -> None:
        self._part(mix(scaled(self.person.hair, 0.75), self.skin, 0.30), "brow")
        self._part(mix(scaled(self.person.hair, 0.60), self.skin, 0.18), "brow_hairs", width_px=1)

    def _draw_mouth(self) -> None:
        skin = self.skin
        natural = mix(skin, (skin[0] * 0.80, skin[1] * 0.52, skin[2] * 0.52), 0.75)
        lip = natural if self.sample.lip_colour is None else mix(natural, self.sample.lip_colour, 0.75)
        if self.sample.mouth_open > 0.1:
            self._part((64.0, 22.0, 24.0), "mouth_inside")
            self._part((226.0, 220.0, 208.0), "teeth")
        self._part(scaled(lip, 0.90), "upper_lip")
        self._part(lip, "lower_lip")
        self._part(scaled(lip, 0.45), "lip_line", width_px=1)
        self._part(mix(lip, (255, 235, 230), 0.3), "lip_shine", width_px=1)
        self._part(scaled(skin, 0.80), "lip_shade", width_px=1)

    def _draw_ear(self, *, far: bool) -> None:
        side = int((self.sample.yaw > 0) == far)
        ear, fold = self.parts["ear"][side], self.parts["ear_fold"][side]
        cv2.fillPoly(self.image, [ear], scaled(self.skin, 0.93), _SMOOTH, SUBPIXEL_BITS)
        cv2.polylines(self.image, [fold], False, scaled(self.skin, 0.62), 1, _SMOOTH, SUBPIXEL_BITS)

    def _draw_body(self) -> None:
        p, turn = self.person, self.sample.yaw
        body = _BODY * (p.neck_width, 1.0) + (-0.12 * turn, p.chin_y + 0.25 * self.sample.pitch)
        jaw = np.concatenate([self._outline[0, -14:], self._outline[1, :-15:-1]]) + (0, 0.15)
        jaw[:, 0] = np.minimum(np.maximum(jaw[:, 0], body[1, 0]), body[4, 0])
        points = self._view(np.concatenate([body, jaw]))
        self._fill(scaled(self.skin, 0.80), points[:6])
        self._fill(scaled(self.skin, 0.58), points[19:], line_type=_FAST)
        self._fill(self.sample.cloth_colour, points[6:19])

    def _hair_border(self) -> np.ndarray:
        """Returns the outer border of the hair, from the left ear over the crown to the right ear, in sub-pixels."""
        s = self.sample
        if s.hair_style in _COVERS_EARS:
            ends = [27, 27]
        else:
            hidden = int(14 * min(abs(s.yaw) / 0.6, 1))
            ends = [22 - hidden * (s.yaw < 0), 22 - hidden * (s.yaw > 0)]
        contour = np.concatenate([self._border[0, ends[0] :: -1], self._border[1, 1 : ends[1] + 1]])
        centre = 0.5 * (contour[0] + contour[-1]) - 0.25 * self._unit[:, 1]
        outward = contour - centre
        outward *= (1 / np.sqrt(np.square(outward).sum(axis=1)))[:, None]
        upward = np.maximum(outward @ self._unit[:, 1] * (-1 / (SUBPIXELS * s.scale_px)), 0)
        top, side = _THICKNESS[s.hair_style]
        thick = (side + (top - side) * upward) * s.hair_volume
        rough = 0.14 if s.hair_style == "curly" else 0.05 if s.hair_style in ("short", "swept") else 0.0
        if rough:
            thick = thick + rough * (s.texture[: len(thick)] - 0.4)
        return contour + outward * (thick * (SUBPIXELS * s.scale_px))[:, None]

    def _draw_hair(self, border: np.ndarray) -> None:
        style = self.sample.hair_style
        line = self.parts["hairline_" + _HAIRLINES.get(style, "natural")][0].astype(np.float64)
        if style == "fringe":
            line[4:-4] += (self.sample.texture[:15, None] - 0.5) * (0.10 * self._unit[:, 1])
        line = line[np.abs(HAIR_ANGLES + self.sample.yaw) < 0.5 * np.pi]  # the rest is behind the horizon
        if style == "bun":
            knot = 0.5 * (self._border[0, 0] + self._border[1, 0]) - 0.12 * self._unit[:, 1]
            self._fill(scaled(self.hair, 0.85), knot + 0.36 * _DISC @ self._unit.T)
        base = self.hair if style != "buzz" else mix(self.hair, self.skin, 0.35)
        self._fill(base, np.concatenate([line, border[::-1]]))
        if style in ("long", "bob"):
            self._fill(base, *self._locks(border))
        if style != "buzz":
            self._draw_strands(line, border)

    def _draw_strands(self, line: np.ndarray, border: np.ndarray) -> None:
        texture, num = self.sample.texture, 12
        share = (np.arange(num) + texture[80 : 80 + num]) / num
        roots = line[(share * (len(line) - 1)).astype(int)][:, None]
        sway = share + 0.2 * (texture[100 : 100 + num] - 0.5)
        tips = border[(np.minimum(np.maximum(sway, 0), 0.999) * len(border)).astype(int)][:, None]
        strands = (roots + (tips - roots) * _REACH - _SWAY * (0.06 * self._unit[:, 1])).astype(np.int32)
        for start, colour in ((0, scaled(self.hair, 0.68)), (1, mix(self.hair, (255, 240, 220), 0.10))):
            cv2.polylines(self.image, list(strands[start::2]), False, colour, 1, _SMOOTH, SUBPIXEL_BITS)

    def _lock_ends(self, border: np.ndarray) -> np.ndarray:
        """Returns the ends of hanging hair, left and right, in sub-pixels (2, 2)."""
        length = 0.55 * self.person.chin_y if self.sample.hair_style == "bob" else 2.2
        down, outside = length * self._unit[:, 1], 0.2 * self._unit[:, 0]
        return np.stack([border[0] + down - outside, border[-1] + down + outside])

    def _hanging_hair(self, border: np.ndarray) -> np.ndarray:
        left_end, right_end = self._lock_ends(border)
        return np.concatenate([left_end[None], border, right_end[None]])

    def _locks(self, border: np.ndarray) -> list[np.ndarray]:
        """Paints hair that falls beside the face, in front of ears and shoulders."""
        inset = _INSET * (self.sample.hair_volume * self._unit[:, 0])
        locks = []
        for side, (face, end) in enumerate(zip(self._border, self._lock_ends(border), strict=True)):
            outer = border[:15] if side == 0 else border[:-16:-1]
            inner = face[14:28] + (inset if side == 0 else -inset)
            foot = end + inner[-1] - outer[0]
            locks.append(np.concatenate([inner, foot[None], end[None], outer]))
        return locks

    def _draw_hat(self) -> None:
        hat = self.sample.hat
        colour = scaled(self.sample.cloth_colour[::-1], 0.9)
        seen = np.abs(HAT_ANGLES + self.sample.yaw) < 0.5 * np.pi + 0.1
        lower, upper = self.parts["band_lower"][0][seen], self.parts["band_upper"][0][seen]
        if hat != "headband":
            contour = np.concatenate([self._border[0, 13::-1], self._border[1, 1:14]])
            middle = 0.5 * (contour[0] + contour[-1])
            dome = middle + (contour - middle) * 1.14
            self._fill(colour, np.concatenate([lower, dome[::-1]]))
        if hat == "cap":
            self._fill(scaled(colour, 0.6), np.concatenate([lower[3:-3], self.parts["brim"][0][::-1]]))
        else:
            self._fill(scaled(colour, 0.8), np.concatenate([lower, upper[::-1]]))

    def _draw_glasses(self) -> None:
        kind, cloth = self.sample.glasses, self.sample.cloth_colour
        dark = cloth if sum(cloth) < 300 else (34.0, 30.0, 30.0)
        frames = self.parts["square" if kind == "square" else "round"]
        if kind == "sun":
            cv2.fillPoly(self.image, frames, (26.0, 24.0, 28.0), _SMOOTH, SUBPIXEL_BITS)
        cv2.polylines(self.image, frames, True, dark, 2 if kind == "square" else 1, _SMOOTH, SUBPIXEL_BITS)
        self._part(dark, "bridge", width_px=1)
        near = 0 if self.sample.yaw > 0 else 1
        cv2.polylines(self.image, [self.parts["arms"][near]], False, dark, 1, _SMOOTH, SUBPIXEL_BITS)


_STEPS = (
    Painter._draw_behind,
    Painter._draw_eyes,
    Painter._draw_nose_and_marks,
    Painter._draw_mouth,
    Painter._draw_brows,
    Painter._draw_sides_and_top,
    Painter._light,
)


def paint(face: FaceModel, light: HeadLight, samples: Sequence[Sample], *, photo_px: int) -> list[Painter]:
    """Paints photos of one identity, before the camera's effects, into the painters' `image`.

    All photos take one step before any takes the next. This is much faster than photo by photo, because NumPy is called
    once for all, and the code of a step stays in the processor's caches. A photo does not depend on the others.
    """
    poses = Poses(samples, photo_px=photo_px)
    outlines, borders = face.pose(samples, poses), face.head.outline(poses)
    fields = light.fields(samples, poses, photo_px=photo_px)
    painters = [
        Painter(
            sample=sample,
            person=face.head.person,
            parts=face.parts(outlines[i]),
            outline=borders[i],
            to_px=poses.to_px[i],
            offset_px=poses.offset_px[i],
            light=fields[i],
        )
        for i, sample in enumerate(samples)
    ]
    for painter in painters:
        painter._draw_background(photo_px)
    for step in _STEPS:
        for painter in painters:
            step(painter)
    return painters
