"""The outlines of a synthetic face as points in depth, and the ways in which a sample moves them.

Everything that sits on a head is one array of points, set up once for an identity. A sample adds weighted moves (smile,
open mouth, brows, lids, gaze, parting and length of the hair) and projects all points at once.
"""

from collections.abc import Callable

import numpy as np

from facerec.data.synthetic_head import HeadSurface, Pose
from facerec.data.synthetic_identity import Identity, Sample

SUBPIXELS = 16  # outlines are int32 in sixteenths of a pixel, as OpenCV draws them with shift=4

Parts = dict[str, list[np.ndarray]]

_ROUND = np.linspace(0, 2 * np.pi, 15)[:-1]
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1)
_DOT = _CIRCLE[::2]
_T_EYE = np.linspace(-1, 1, 11)
_EYE_ARCH = 1 - np.abs(_T_EYE) ** 2.2
_T_MOUTH = np.linspace(-1, 1, 15)


def _mirrored(points: np.ndarray) -> np.ndarray:
    return points * (-1.0, *[1.0] * (points.shape[1] - 1))


def _pair(points: np.ndarray) -> list[np.ndarray]:
    return [_mirrored(points), points]


def _curve(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def _between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first, second[::-1]])


def _eyes(p: Identity, wider: float, _: float) -> Parts:
    """Eyes are drawn as whole discs on the white of the eye; the lids then cover what they hide."""
    t, arch = _T_EYE, _EYE_ARCH
    x = p.eye_spacing + p.eye_width * t
    middle = p.eye_y - p.eye_tilt * t
    upper = middle - 1.12 * p.eye_height * (1 + wider) * arch * (1 + p.eye_peak * t)
    lower = middle + 0.62 * p.eye_height * arch * (1 - 0.3 * p.eye_peak * t)
    upper_line, lower_line = _curve(x, upper), _curve(x, lower)
    thickness = p.lash * (0.55 + 0.45 * t) + 0.006
    fold = _curve(x, middle - 0.99 * p.eye_height * arch - p.crease - 0.03)
    return {
        "white": _pair(_between(upper_line, lower_line)),
        "upper_lid": _pair(_between(upper_line, _curve(x, middle - 1.35 * p.eye_height - 0.05))),
        "lower_lid": _pair(_between(lower_line, _curve(x, middle + 0.62 * p.eye_height + 0.07))),
        "lashes": _pair(_between(_curve(x, upper - thickness), _curve(x, upper + 0.012))),
        "lower_rim": _pair(lower_line[1:]),
        "crease": _pair(fold[1:-1]),
        "bag": _pair(_curve(x, lower + 0.075 + 0.02 * p.age)[1:-3]),
    }


def _irises(p: Identity, gaze_x: float, gaze_y: float) -> Parts:
    parts: Parts = {}
    gaze = np.array([0.07 * gaze_x, 0.04 * gaze_y])
    for name, radius in (("iris_rim", 1.0), ("iris", 0.80), ("pupil", 0.42)):
        disc = _CIRCLE * (radius * p.iris_radius) + (p.eye_spacing, p.eye_y - 0.012)
        parts[name] = [side + gaze for side in _pair(disc)]
    parts["spark"] = [_DOT * 0.022 + (side * p.eye_spacing + 0.03, p.eye_y - 0.045) + gaze for side in (-1, 1)]
    return parts


def _brows(p: Identity, raised: float, _: float) -> Parts:
    t = np.linspace(0, 1, 9)
    x = p.eye_spacing + p.brow_gap - 0.62 * p.brow_length + 1.75 * p.brow_length * t
    middle = p.eye_y - p.brow_y - 0.05 * raised + p.brow_tilt * (t - 0.5) - p.brow_arch * np.sin(np.pi * t**1.4)
    half = 0.5 * p.brow_thickness * (1.0 - 0.75 * t**2) * np.minimum(1, 0.6 + 3 * t)
    skew = np.array([0.0, p.brow_skew])
    shape = _between(_curve(x, middle - half), _curve(x, middle + half))
    hairs = _curve(x, middle - 0.2 * half)
    return {
        "brow": [_mirrored(shape) + skew, shape - skew],
        "brow_hairs": [_mirrored(hairs) + skew, hairs - skew],
    }


def _nose(p: Identity, _: float, __: float) -> Parts:
    base_y, half, skew = p.nose_length + 0.085, p.nose_width, np.array([p.nose_skew, 0.0])
    t = np.linspace(-0.4, 1.9, 8)
    wing = _curve(half * (0.80 + 0.22 * np.sin(t)), base_y - 0.015 - 0.105 * np.cos(t))
    hole = _CIRCLE * (p.nostril * 1.35, p.nostril * 0.62) + (half * 0.46, base_y + 0.012)
    hole[:, 1] -= 0.25 * (hole[:, 0] - half * 0.46)
    t = np.linspace(-1, 1, 9)
    under = _curve(half * 0.62 * t, base_y + 0.035 - 0.03 * np.abs(t))
    return {
        "nose_under": [under + skew],
        "nose_wing": [side + skew for side in _pair(wing)],
        "nostril": [side + skew for side in _pair(hole)],
    }


def _mouth(p: Identity, smile: float, opening: float) -> Parts:
    t = _T_MOUTH
    across = np.abs(t)
    x = p.mouth_width * (1 + 0.20 * smile - 0.12 * opening) * t + p.mouth_skew
    line = p.mouth_y - (0.085 * smile + p.mouth_corner) * across**1.8 + 0.012 * np.cos(1.5 * np.pi * t) * (1 - across)
    arch = 1 - across**1.7
    thin = 1 - 0.25 * smile
    bow = p.cupid * (np.exp(-((t / 0.16) ** 2)) - 0.6 * np.exp(-(((across - 0.25) / 0.16) ** 2)))
    top = _curve(x, line - p.upper_lip * thin * arch + bow)
    under = _curve(x, line - 0.05 * opening * arch)
    over = _curve(x, line + 0.15 * opening * arch**0.6)
    bottom = _curve(x, over[:, 1] + p.lower_lip * thin * (1 - t**2) ** 0.8)
    fold_t = np.linspace(0, 1, 7)
    fold_x = p.nose_width + 0.05 + (p.mouth_width + 0.07 - p.nose_width + 0.06 * smile) * fold_t
    fold_y = p.nose_length + 0.02 + 0.95 * (p.mouth_y - p.nose_length) * fold_t
    eye_y = p.eye_y - 0.01
    steady = np.array([[-p.eye_spacing, eye_y], [p.eye_spacing, eye_y], [p.nose_skew, p.nose_length - 0.02]])
    return {
        "mouth_inside": [_between(under, over)],
        "teeth": [_between(under, under + (over - under) * 0.55)[1:-1]],
        "upper_lip": [_between(top, under)],
        "lower_lip": [_between(over, bottom)],
        "lip_line": [under, over],
        "lip_shine": [over[4:-4] + (bottom[4:-4] - over[4:-4]) * 0.45],
        "lip_shade": [bottom[4:-4] + (0, 0.035)],
        "smile_fold": _pair(_curve(fold_x + 0.05 * np.sin(np.pi * fold_t), fold_y)),
        "landmarks": [np.concatenate([steady, under[[0, -1]]])],
    }


def _marks(p: Identity, _: float, __: float) -> Parts:
    wrinkle = np.linspace(-0.42, 0.42, 7)
    rows = [_curve(wrinkle, -p.brow_y - 0.22 - 0.13 * k - 0.03 * np.cos(5 * wrinkle + k)) for k in range(3)]
    return {
        "freckle": [_DOT * size + (x, y) for x, y, size in p.freckles],
        "mole": [_DOT * size + (x, y) for x, y, size in p.moles],
        "scar": [p.scar] if len(p.scar) else [],
        "wrinkle": rows[: 1 + int(3 * (p.age - 0.55) / 0.46)] if p.age > 0.55 else [],
    }


def _ears(p: Identity, _: float, __: float) -> Parts:
    t = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
    rim = _curve(0.45 * np.cos(t) - 0.08 * np.sin(t), np.sin(t))
    rim[:, 0] *= np.where(t > 0.6, 0.62, 1.0)
    parts: Parts = {}
    root = [[-0.12, 0.75], [-0.12, -0.75]]
    for name, shape in (("ear", np.concatenate([rim, root])), ("ear_fold", rim[1:] * (0.62, 0.70) + (0.02, -0.02))):
        out, up = shape[:, 0] * p.ear_height * 0.85, shape[:, 1] * 0.5 * p.ear_height
        x = 0.965 * p.cheek_width + out * (0.35 + np.sin(p.ear_angle))
        z = -0.05 - out * np.cos(p.ear_angle) * 0.7
        parts[name] = _pair(np.stack([x, p.ear_y + 0.22 + up, z], axis=1))
    return parts


def _glasses(p: Identity, _: float, __: float) -> Parts:
    depth = 1.26
    parts: Parts = {}
    for name, power in (("round", 0.9), ("square", 0.55)):
        rim = np.sign(_CIRCLE) * np.abs(_CIRCLE) ** power * (0.34, 0.25) + (p.eye_spacing + 0.01, p.eye_y + 0.03)
        parts[name] = _pair(np.column_stack([rim, depth - 0.35 * np.square(rim[:, 0])]))
    edge = p.eye_spacing - 0.33
    parts["bridge"] = [
        np.array([[-edge, p.eye_y, depth], [0, p.eye_y - 0.04, depth + 0.06], [edge, p.eye_y, depth]])
    ]
    parts["arms"] = _pair(np.array([[p.eye_spacing + 0.34, p.eye_y, 0.95], [1.04, p.eye_y + 0.02, 0.1]]))
    return parts


def _hair(p: Identity, part: float, length: float) -> Parts:
    """Where hair and hats begin, from the left ear over the forehead to the right ear: (angle, height) on the skull."""
    t = np.linspace(-1, 1, 23)
    across = np.abs(t)
    peak = p.hairline_peak * np.exp(-((t / 0.14) ** 2)) - p.hairline_corner * np.exp(-(((across - 0.5) / 0.2) ** 2))
    natural = p.hairline_y + (0.10 - p.hairline_y) * across**3.2 + peak
    fringe = np.where(across < 0.72, np.maximum(natural, -0.58 + 0.16 * length), natural)
    opened = np.clip(1 - np.abs(t + 0.6 - 1.2 * part) / 1.2, 0, 1)
    covering = p.hairline_y + (0.45 - p.hairline_y) * across**3.2 + peak
    parted = np.maximum(covering, -0.42 - 0.75 * opened + (0.2 + 0.2 * length) * (across - 0.8))
    lines = {"natural": natural, "fringe": fringe, "parted": parted}
    band = np.linspace(-1.75, 1.75, 19)
    return {
        **{f"hairline_{name}": [_curve(1.42 * t, y)] for name, y in lines.items()},
        "band_lower": [_curve(band, -0.62 - 0.10 * np.cos(band))],
        "band_upper": [_curve(band, -0.86 - 0.10 * np.cos(band))],
    }


def _cap_brim(_: Identity, __: float, ___: float) -> Parts:
    t = np.linspace(-1, 1, 13)
    return {"brim": [np.stack([0.92 * t, np.full(13, -0.56), 0.55 + 1.15 * np.sqrt(1 - 0.75 * t**2)], axis=1)]}


# How a group's points are given (on the face's front, as angles on the skull, or in the head frame), and the two
# attributes of a sample that move them.
_GROUPS = (
    (_eyes, "front", "eyelid", "none"),
    (_irises, "front", "gaze_x", "gaze_y"),
    (_brows, "front", "brow_raise", "none"),
    (_nose, "front", "none", "none"),
    (_mouth, "front", "smile", "mouth_open"),
    (_marks, "front", "none", "none"),
    (_hair, "skull", "hair_part", "hair_length"),
    (_ears, "space", "none", "none"),
    (_glasses, "space", "none", "none"),
    (_cap_brim, "space", "none", "none"),
)
_MOVES = ("none", "eyelid", "gaze_x", "gaze_y", "brow_raise", "smile", "mouth_open", "hair_part", "hair_length")


class FaceModel:
    """All outlines of one identity, ready to be posed.

    Args:
        head: the surface that carries them.
    """

    def __init__(self, head: HeadSurface) -> None:
        self.head = head
        self._slices: dict[str, list[slice]] = {}
        rest = [group(head.person, 0, 0) for group, _, _, _ in _GROUPS]
        first = [_moved(group, head.person, rest[i], move, 0) for i, (group, _, move, _) in enumerate(_GROUPS)]
        second = [_moved(group, head.person, rest[i], move, 1) for i, (group, _, _, move) in enumerate(_GROUPS)]
        self._rest = _points(head, rest)
        self._first_move, self._second_move = _points(head, first) - self._rest, _points(head, second) - self._rest
        start = 0
        lengths = []
        for parts in rest:
            group_start = start
            for name, shapes in parts.items():
                self._slices[name] = []
                for shape in shapes:
                    self._slices[name].append(slice(start, start + len(shape)))
                    start += len(shape)
            lengths.append(start - group_start)
        self._first_weight = np.repeat([_MOVES.index(move) for _, _, move, _ in _GROUPS], lengths)
        self._second_weight = np.repeat([_MOVES.index(move) for _, _, _, move in _GROUPS], lengths)

    def pose(self, sample: Sample, pose: Pose) -> dict[str, list[np.ndarray]]:
        """The outlines in the photo by name, int32 (N, 2) each, in 1 / SUBPIXELS pixels.

        Left of a pair comes first. "landmarks" holds the five landmarks in the order of the template.
        """
        weights = np.array([0.0, *(getattr(sample, name) for name in _MOVES[1:])])
        points = self._rest + self._first_move * weights.take(self._first_weight)[:, None]
        points += self._second_move * weights.take(self._second_weight)[:, None]
        pixels = np.rint(pose.project(points) * SUBPIXELS).astype(np.int32)
        return {name: [pixels[where] for where in places] for name, places in self._slices.items()}


def _moved(group: Callable[..., Parts], person: Identity, rest: Parts, move: str, which: int) -> Parts:
    """A group with its first (0) or second (1) move made in full."""
    return rest if move == "none" else group(person, 1 - which, which)


def _points(head: HeadSurface, groups: list[Parts]) -> np.ndarray:
    """The points of all groups in the head frame (N, 3)."""
    frames: dict[str, list[np.ndarray]] = {"front": [], "skull": [], "space": []}
    for parts, (_, frame, _, _) in zip(groups, _GROUPS, strict=True):
        for shapes in parts.values():
            frames[frame] += shapes
    skull = head.place(*np.concatenate(frames["skull"]).T)
    skull[:, [0, 2]] *= np.where(np.arange(len(skull)) < 3 * 23, 1.015, 1.07)[:, None]
    return np.concatenate([head.lift(np.concatenate(frames["front"])), skull, *frames["space"]])
