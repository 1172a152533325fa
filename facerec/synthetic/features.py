"""The outlines of a synthetic face as points in depth, and the moves by which a sample changes them.

Everything on a head is one array of points, set up once for an identity. A sample adds weighted moves (smile, open
mouth, brows, lids, gaze, parting and length of the hair) and projects all points together.

Each group of outlines has up to two moves and is computed in three states: at rest, with the first move made,
and with the second. Letters: 3 states, N points, 2 or 3 coordinates.
"""

from collections.abc import Sequence

import numpy as np

from facerec.synthetic.head_surface import HeadSurface, Poses
from facerec.synthetic.identity import Identity, Sample

SUBPIXEL_BITS = 4
SUBPIXELS = 1 << SUBPIXEL_BITS  # outlines are int32 in sixteenths of a pixel, as OpenCV draws them
HAIR_ANGLES = 1.42 * np.linspace(-1, 1, 23)  # angles of the points of hairlines, around the vertical axis
HAT_ANGLES = np.linspace(-2.0, 2.0, 25)  # angles of the points of the rims of hats

Parts = dict[str, list[np.ndarray]]

_FIRST = np.array([[0.0], [1.0], [0.0]])
_SECOND = np.array([[0.0], [0.0], [1.0]])
_ROUND = np.linspace(0, 2 * np.pi, 15)[:-1]
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], axis=1)
_DOT = _CIRCLE[::2]
_T_EYE = np.linspace(-1, 1, 11)
_T_BROW = np.linspace(0, 1, 9)
_T_WING = np.linspace(-0.4, 1.9, 8)
_T_UNDER_NOSE = np.linspace(-1, 1, 9)
_T_MOUTH = np.linspace(-1, 1, 15)
_T_FOLD = np.linspace(0, 1, 7)
_T_WRINKLE = np.linspace(-0.42, 0.42, 7)
_T_EAR = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
_T_BRIM = np.linspace(-1, 1, 13)


def _curve(*coordinates: np.ndarray | float) -> np.ndarray:
    """Builds points (3, N, 2 or 3) from their coordinates, each (N,), (3, N) or a number."""
    points = np.empty((3, max(np.shape(c)[-1] for c in coordinates if np.ndim(c)), len(coordinates)))
    for axis, values in enumerate(coordinates):
        points[:, :, axis] = values
    return points


def _between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the polygon between two curves that run in the same direction."""
    return np.concatenate([first, second[:, ::-1]], axis=1)


def _pair(points: np.ndarray) -> list[np.ndarray]:
    """Returns the image's left and right version of points that were drawn for the right."""
    mirrored = points.copy()
    mirrored[..., 0] *= -1
    return [mirrored, points]


def _eyes(p: Identity) -> Parts:
    """Moves: lids further open; none. Irises are drawn as whole discs; the lids then cover their hidden parts."""
    t = _T_EYE
    arch = 1 - np.abs(t) ** 2.2
    x = p.eye_spacing + p.eye_width * t
    middle = p.eye_y - p.eye_tilt * t
    upper = middle - 1.12 * p.eye_height * (1 + _FIRST) * arch * (1 + p.eye_peak * t)
    lower = middle + 0.62 * p.eye_height * arch * (1 - 0.3 * p.eye_peak * t)
    upper_line, lower_line = _curve(x, upper), _curve(x, lower)
    thickness = p.lash * (0.55 + 0.45 * t) + 0.006
    return {
        "white": _pair(_between(upper_line, lower_line)),
        "upper_lid": _pair(_between(upper_line, _curve(x, middle - 1.35 * p.eye_height - 0.05))),
        "lower_lid": _pair(_between(lower_line, _curve(x, middle + 0.62 * p.eye_height + 0.07))),
        "lashes": _pair(_between(_curve(x, upper - thickness), _curve(x, upper + 0.012))),
        "lower_rim": _pair(lower_line[:, 1:]),
        "crease": _pair(_curve(x, middle - 0.99 * p.eye_height * arch - p.crease - 0.03)[:, 1:-1]),
        "bag": _pair(_curve(x, lower + 0.075 + 0.02 * p.age)[:, 1:-3]),
    }


def _irises(p: Identity) -> Parts:
    """Moves: look to the image's right; look down."""
    parts: Parts = {}
    gaze = _curve(0.07 * _FIRST, 0.04 * _SECOND)
    for name, radius in (("iris_rim", 1.0), ("iris", 0.80), ("pupil", 0.42)):
        disc = _CIRCLE * (radius * p.iris_radius) + (p.eye_spacing, p.eye_y - 0.012)
        parts[name] = [side + gaze for side in _pair(disc)]
    parts["spark"] = [_DOT * 0.022 + (side * p.eye_spacing + 0.03, p.eye_y - 0.045) + gaze for side in (-1, 1)]
    return parts


def _brows(p: Identity) -> Parts:
    """Moves: raised; none."""
    t = _T_BROW
    x = p.eye_spacing + p.brow_gap - 0.62 * p.brow_length + 1.75 * p.brow_length * t
    middle = p.eye_y - p.brow_y - 0.06 * _FIRST + p.brow_tilt * (t - 0.5) - p.brow_arch * np.sin(np.pi * t**1.4)
    half = 0.5 * p.brow_thickness * (1.0 - 0.75 * t**2) * np.minimum(1, 0.6 + 3 * t)
    parts = {
        "brow": _pair(_between(_curve(x, middle - half), _curve(x, middle + half))),
        "brow_hairs": _pair(_curve(x, middle - 0.2 * half)),
    }
    for left, right in parts.values():
        left[:, :, 1] += p.brow_skew
        right[:, :, 1] -= p.brow_skew
    return parts


def _nose(p: Identity) -> Parts:
    """No moves."""
    base_y, half, skew = p.nose_length + 0.085, p.nose_width, np.array([p.nose_skew, 0.0])
    wing = _curve(half * (0.80 + 0.22 * np.sin(_T_WING)), base_y - 0.015 - 0.105 * np.cos(_T_WING))
    hole = _CIRCLE * (p.nostril * 1.35, p.nostril * 0.62) + (half * 0.46, base_y + 0.012)
    hole[:, 1] -= 0.25 * (hole[:, 0] - half * 0.46)
    under = _curve(half * 0.62 * _T_UNDER_NOSE, base_y + 0.035 - 0.03 * np.abs(_T_UNDER_NOSE))
    return {
        "nose_lines": [side + skew for side in (under, *_pair(wing))],
        "nostril": [side + skew for side in _pair(hole)],
    }


def _mouth(p: Identity) -> Parts:
    """Moves: smile; open mouth. The landmarks move with the corners of the mouth."""
    t, smile, opening = _T_MOUTH, _FIRST, _SECOND
    across = np.abs(t)
    x = p.mouth_width * (1 + 0.20 * smile - 0.12 * opening) * t + p.mouth_skew
    line = p.mouth_y - (0.085 * smile + p.mouth_corner) * across**1.8 + 0.012 * np.cos(1.5 * np.pi * t) * (1 - across)
    arch = 1 - across**1.7
    thin = 1 - 0.25 * smile
    bow = p.cupid * (np.exp(-((t / 0.16) ** 2)) - 0.6 * np.exp(-(((across - 0.25) / 0.16) ** 2)))
    top = _curve(x, line - p.upper_lip * thin * arch + bow)
    under = _curve(x, line - 0.05 * opening * arch)
    over = _curve(x, line + 0.15 * opening * arch**0.6)
    bottom = over.copy()
    bottom[:, :, 1] += p.lower_lip * thin * (1 - t**2) ** 0.8
    fold_x = p.nose_width + 0.05 + (p.mouth_width + 0.07 - p.nose_width + 0.06 * smile) * _T_FOLD
    fold_y = p.nose_length + 0.02 + 0.95 * (p.mouth_y - p.nose_length) * _T_FOLD
    steady_x, steady_y = [-p.eye_spacing, p.eye_spacing, p.nose_skew], [p.eye_y - 0.01] * 2 + [p.nose_length - 0.02]
    return {
        "mouth_inside": [_between(under, over)],
        "teeth": [_between(under, under + (over - under) * 0.55)[:, 1:-1]],
        "upper_lip": [_between(top, under)],
        "lower_lip": [_between(over, bottom)],
        "lip_line": [under, over],
        "lip_shine": [over[:, 4:-4] + (bottom[:, 4:-4] - over[:, 4:-4]) * 0.45],
        "lip_shade": [bottom[:, 4:-4] + (0, 0.035)],
        "smile_fold": _pair(_curve(fold_x + 0.05 * np.sin(np.pi * _T_FOLD), fold_y)),
        "landmarks": [np.concatenate([_curve(np.array(steady_x), np.array(steady_y)), under[:, [0, -1]]], axis=1)],
    }


def _marks(p: Identity) -> Parts:
    """No moves."""
    rows = [_curve(_T_WRINKLE, -p.brow_y - 0.22 - 0.13 * k - 0.03 * np.cos(5 * _T_WRINKLE + k)) for k in range(3)]
    return {
        "freckle": [_DOT * size + (x, y) for x, y, size in p.freckles],
        "mole": [_DOT * size + (x, y) for x, y, size in p.moles],
        "scar": [p.scar] if len(p.scar) else [],
        "wrinkle": rows[: 1 + int(3 * (p.age - 0.55) / 0.46)] if p.age > 0.55 else [],
    }


def _hair(p: Identity) -> Parts:
    """Returns the edge of hair and hats, from the left ear over the forehead to the right one, around the skull.

    Moves: parted on the right instead of the left; longer.
    """
    t = HAIR_ANGLES / HAIR_ANGLES[-1]
    across = np.abs(t)
    peak = p.hairline_peak * np.exp(-((t / 0.14) ** 2)) - p.hairline_corner * np.exp(-(((across - 0.5) / 0.2) ** 2))
    natural = p.hairline_y + (0.10 - p.hairline_y) * across**3.2 + peak
    fringe = np.where(across < 0.72, np.maximum(natural, -0.58 + 0.16 * _SECOND), natural)
    opened = np.maximum(1 - np.abs(t + 0.6 - 1.2 * _FIRST) / 1.2, 0)
    covering = p.hairline_y + (0.45 - p.hairline_y) * across**3.2 + peak
    parted = np.maximum(covering, -0.42 - 0.75 * opened + (0.2 + 0.2 * _SECOND) * (across - 0.8))
    band = 0.10 * np.cos(HAT_ANGLES)
    return {
        "hairline_natural": [_curve(HAIR_ANGLES, natural, 1.015)],
        "hairline_fringe": [_curve(HAIR_ANGLES, fringe, 1.015)],
        "hairline_parted": [_curve(HAIR_ANGLES, parted, 1.015)],
        "band_lower": [_curve(HAT_ANGLES, -0.62 - band, 1.07)],
        "band_upper": [_curve(HAT_ANGLES, -0.86 - band, 1.07)],
    }


def _ears(p: Identity) -> Parts:
    """No moves."""
    rim = np.stack([0.45 * np.cos(_T_EAR) - 0.08 * np.sin(_T_EAR), np.sin(_T_EAR)], axis=1)
    rim[:, 0] *= np.where(_T_EAR > 0.6, 0.62, 1.0)
    parts: Parts = {}
    root = [[-0.12, 0.75], [-0.12, -0.75]]
    for name, shape in (("ear", np.concatenate([rim, root])), ("ear_fold", rim[1:] * (0.62, 0.70) + (0.02, -0.02))):
        out, up = shape[:, 0] * p.ear_height * 0.85, shape[:, 1] * 0.5 * p.ear_height
        x = 0.965 * p.cheek_width + out * (0.35 + np.sin(p.ear_angle))
        parts[name] = _pair(_curve(x, p.ear_y + 0.22 + up, -0.05 - out * np.cos(p.ear_angle) * 0.7))
    return parts


def _glasses(p: Identity) -> Parts:
    """Has no moves. Frames are in front of the eyes, so that a turn of the head shifts them."""
    depth = 1.26
    parts: Parts = {}
    for name, power in (("round", 0.9), ("square", 0.55)):
        rim = np.sign(_CIRCLE) * np.abs(_CIRCLE) ** power * (0.34, 0.25) + (p.eye_spacing + 0.01, p.eye_y + 0.03)
        parts[name] = _pair(_curve(rim[:, 0], rim[:, 1], depth - 0.35 * np.square(rim[:, 0])))
    edge = p.eye_spacing - 0.33
    bridge = [[-edge, p.eye_y, depth], [0, p.eye_y - 0.04, depth + 0.06], [edge, p.eye_y, depth]]
    arm = [[p.eye_spacing + 0.34, p.eye_y, 0.95], [1.04, p.eye_y + 0.02, 0.1]]
    return {**parts, "bridge": [np.array(bridge)], "arms": _pair(np.array(arm))}


def _brim(_: Identity) -> Parts:
    """No moves."""
    return {"brim": [_curve(0.88 * _T_BRIM, -0.60, 0.62 + 0.95 * np.sqrt(1 - 0.8 * _T_BRIM**2))]}


# The groups in the order of their points, and the attributes of a sample that weight their two moves. Coordinates are
# x and y of the face seen from the front; angle, height and swelling around the skull; or x, y and z of the head.
_FRONT = (
    (_eyes, "eyelid", ""),
    (_irises, "gaze_x", "gaze_y"),
    (_brows, "brow_raise", ""),
    (_nose, "", ""),
    (_mouth, "smile", "mouth_open"),
    (_marks, "", ""),
)
_SKULL = ((_hair, "hair_part", "hair_length"),)
_SPACE = ((_ears, "", ""), (_glasses, "", ""), (_brim, "", ""))
_MOVES = ("eyelid", "gaze_x", "gaze_y", "brow_raise", "smile", "mouth_open", "hair_part", "hair_length", "")


class FaceModel:
    """All outlines of one identity, before they are posed.

    Args:
        head: the surface under them.
    """

    def __init__(self, head: HeadSurface) -> None:
        self.head = head
        self._slices: dict[str, list[slice]] = {}
        states: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        num_points = 0
        for groups, to_space in ((_FRONT, head.lift), (_SKULL, head.place), (_SPACE, None)):
            shapes: list[np.ndarray] = []
            for group, first, second in groups:
                group_start = num_points
                for name, part in group(head.person).items():
                    self._slices[name] = []
                    for shape in part:
                        start, num_points = num_points, num_points + shape.shape[-2]
                        self._slices[name].append(slice(start, num_points))
                        shapes.append(np.broadcast_to(shape, (3, *shape.shape[-2:])))
                moves = [[_MOVES.index(first)], [_MOVES.index(second)]]
                weights.append(np.repeat(moves, num_points - group_start, axis=1))
            points = np.concatenate(shapes, axis=1)
            states.append(to_space(points) if to_space else points)
        self._rest, first_made, second_made = np.concatenate(states, axis=1).astype(np.float32)
        self._first_move, self._second_move = first_made - self._rest, second_made - self._rest
        self._first_weight, self._second_weight = np.concatenate(weights, axis=1)

    def pose(self, samples: Sequence[Sample], poses: Poses) -> np.ndarray:
        """Returns all outlines in the photos: int32 (B, N, 2), in 1 / SUBPIXELS pixels. `parts` separates them."""
        chosen = [[*(getattr(sample, name) for name in _MOVES[:-1]), 0.0] for sample in samples]
        weights = np.array(chosen, dtype=np.float32)
        points = self._first_move * weights[:, self._first_weight, None]
        points += self._second_move * weights[:, self._second_weight, None]
        points += self._rest
        return np.rint(poses.project(points) * SUBPIXELS).astype(np.int32)

    def parts(self, outlines: np.ndarray) -> Parts:
        """Returns the outlines of one sample (N, 2) by name. The left one of a pair comes first.

        "landmarks" holds the five landmarks in the order of the template.
        """
        return {name: [outlines[where] for where in places] for name, places in self._slices.items()}
