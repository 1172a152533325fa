"""The outlines of a synthetic face as points in depth, with the ways in which expressions move them.

Everything on a head is one array of points, set up once for an identity. A sample adds weighted moves (smile, open
mouth, brows, lids, gaze, parting and length of the hair) and projects all points at once.
"""

import numpy as np

from facerec.data.synthetic_head import HeadSurface, Pose
from facerec.data.synthetic_identity import Identity, Sample

MOVES = ("smile", "opening", "brow", "lid", "gaze_x", "gaze_y", "part", "volume")
SUBPIXEL_BITS = 4

Parts = dict[str, list[np.ndarray]]

_ROUND = np.linspace(0, 2 * np.pi, 17)[:-1]
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1)
_DOT = _CIRCLE[::3]
_T_EYE = np.linspace(-1, 1, 13)
_EYE_ARCH = 1 - np.abs(_T_EYE) ** 2.2
_T_MOUTH = np.linspace(-1, 1, 17)


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


def _eyes(p: Identity, *, openness: float) -> Parts:
    """Eyes are drawn as whole discs on the white of the eye; the lids then cover what they hide."""
    t, arch = _T_EYE, _EYE_ARCH
    x = p.eye_spacing + p.eye_width * t
    middle = p.eye_y - p.eye_tilt * t
    upper = middle - 1.12 * p.eye_height * openness * arch * (1 + p.eye_peak * t)
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


def _irises(p: Identity) -> Parts:
    parts: Parts = {}
    for name, radius in (("iris_rim", 1.0), ("iris", 0.80), ("pupil", 0.42)):
        parts[name] = _pair(_CIRCLE * (radius * p.iris_radius) + (p.eye_spacing, p.eye_y - 0.012))
    parts["spark"] = [_DOT * 0.022 + (side * p.eye_spacing + 0.03, p.eye_y - 0.045) for side in (-1, 1)]
    return parts


def _brows(p: Identity) -> Parts:
    t = np.linspace(0, 1, 9)
    x = p.eye_spacing + p.brow_gap - 0.62 * p.brow_length + 1.75 * p.brow_length * t
    middle = p.eye_y - p.brow_y + p.brow_tilt * (t - 0.5) - p.brow_arch * np.sin(np.pi * t**1.4)
    half = 0.5 * p.brow_thickness * (1.0 - 0.75 * t**2) * np.minimum(1, 0.6 + 3 * t)
    skew = np.array([0.0, p.brow_skew])
    shape = _between(_curve(x, middle - half), _curve(x, middle + half))
    hairs = _curve(x, middle - 0.2 * half)
    return {
        "brow": [_mirrored(shape) + skew, shape - skew],
        "brow_hairs": [_mirrored(hairs) + skew, hairs - skew],
    }


def _nose(p: Identity) -> Parts:
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


def _mouth(p: Identity, *, smile: float, opening: float) -> Parts:
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
        "lip_shine": [over[5:-5] + (bottom[5:-5] - over[5:-5]) * 0.45],
        "lip_shade": [bottom[4:-4] + (0, 0.035)],
        "smile_fold": _pair(_curve(fold_x + 0.05 * np.sin(np.pi * fold_t), fold_y)),
        "landmarks": [np.concatenate([steady, under[[0, -1]]])],
    }


def _marks(p: Identity) -> Parts:
    wrinkle = np.linspace(-0.42, 0.42, 7)
    rows = [_curve(wrinkle, -p.brow_y - 0.22 - 0.13 * k - 0.03 * np.cos(5 * wrinkle + k)) for k in range(3)]
    return {
        "freckle": [_DOT * size + (x, y) for x, y, size in p.freckles],
        "mole": [_DOT * size + (x, y) for x, y, size in p.moles],
        "scar": [p.scar] if len(p.scar) else [],
        "wrinkle": rows[: 1 + int(3 * (p.age - 0.55) / 0.46)] if p.age > 0.55 else [],
    }


def _ears(p: Identity) -> Parts:
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


def _glasses(p: Identity) -> Parts:
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


def _hairline(p: Identity, kind: str, *, part: float, volume: float) -> tuple[np.ndarray, np.ndarray]:
    """Where hair begins, from the left ear over the forehead to the right one: angles and heights, (23,) each."""
    t = np.linspace(-1, 1, 23)
    across = np.abs(t)
    drop = 0.45 if kind == "parted" else 0.10
    y = p.hairline_y + (drop - p.hairline_y) * across**3.2
    y = y + p.hairline_peak * np.exp(-((t / 0.14) ** 2)) - p.hairline_corner * np.exp(-(((across - 0.5) / 0.2) ** 2))
    if kind == "fringe":
        y = np.where(across < 0.72, np.maximum(y, -0.58 + 0.10 * volume), y)
    elif kind == "parted":
        opened = np.clip(1 - np.abs(t - part) / 1.2, 0, 1)
        y = np.maximum(y, -0.42 - 0.75 * opened + (0.2 + 0.2 * volume) * (across - 0.8))
    return t * 1.42, y


def _hat_band() -> tuple[np.ndarray, np.ndarray]:
    angle = np.linspace(-1.75, 1.75, 19)
    return angle, -0.62 - 0.10 * np.cos(angle)


class FaceModel:
    """All outlines of one identity, ready to be posed.

    Attributes:
        head: the surface that carries them.
    """

    def __init__(self, head: HeadSurface) -> None:
        self.head = head
        p = head.person
        self._names: dict[str, list[slice]] = {}
        flat = {**_eyes(p, openness=1.0), **_irises(p), **_brows(p), **_nose(p), **_mouth(p, smile=0, opening=0), **_marks(p)}
        moved: dict[str, Parts] = {
            "smile": _mouth(p, smile=1, opening=0),
            "opening": _mouth(p, smile=0, opening=1),
            "brow": {name: [shape + (0, -0.05) for shape in flat[name]] for name in ("brow", "brow_hairs")},
            "lid": _eyes(p, openness=2.0),
        }
        for axis, shift in (("gaze_x", (0.08, 0.0)), ("gaze_y", (0.0, 0.05))):
            moved[axis] = {name: [disc + shift for disc in flat[name]] for name in ("iris_rim", "iris", "pupil", "spark")}

        chosen = [(move, name, shape) for move, parts in moved.items() for name in parts for shape in parts[name]]
        lifted = head.lift(np.concatenate([*(s for part in flat.values() for s in part), *(s for _, _, s in chosen)]))
        num_flat = self._register(flat, start=0)
        round_parts, round_points = self._around(head, start=num_flat)
        solid = {**_ears(p), **_glasses(p)}
        solid_points = np.concatenate([s for part in solid.values() for s in part])
        num_round = round_points["rest"].shape[0]
        total = self._register(solid, start=num_flat + num_round)
        self._points = np.concatenate([lifted[:num_flat], round_points["rest"], solid_points])
        self._moves = np.zeros((len(MOVES), total, 3))
        start = num_flat
        position: dict[tuple[str, str], int] = {}
        for move, name, shape in chosen:
            number = position.get((move, name), 0)
            position[move, name] = number + 1
            where = self._names[name][number]
            self._moves[MOVES.index(move), where] = lifted[start : start + len(shape)] - self._points[where]
            start += len(shape)
        rest = slice(num_flat, num_flat + num_round)
        for move in ("part", "volume"):
            self._moves[MOVES.index(move), rest] = round_points[move] - round_points["rest"]
        self._moves = self._moves.reshape(len(MOVES), -1)
        del round_parts
