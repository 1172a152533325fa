"""The synthetic head as a surface: the depth of a feature, and the outline of the head in a pose.

The head is a stack of elliptic sections, one for each height, plus a relief (nose, sockets, cheekbones, lips, chin)
along z. A pose rotates it; the projection is orthographic. Two frames: the head's (see `identity.py`) and the view's,
after yaw and pitch: u to the right, v down, in head units. Roll, scale and shift come later, in the image.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from facerec.synthetic.identity import Identity, Sample

TOP_Y, BOTTOM_Y, NUM_LEVELS = -1.75, 1.85, 100
MAX_ANGLE, NUM_ANGLES = 1.9, 64
LEVEL_STEP = (BOTTOM_Y - TOP_Y) / (NUM_LEVELS - 1)
ANGLE_STEP = 2 * MAX_ANGLE / (NUM_ANGLES - 1)
LEVELS = np.linspace(TOP_Y, BOTTOM_Y, NUM_LEVELS, dtype=np.float32)
ANGLES = np.linspace(-MAX_ANGLE, MAX_ANGLE, NUM_ANGLES, dtype=np.float32)
_T = np.linspace(0, 1, 8, endpoint=False)[:, None]


def _smooth_curve(points: np.ndarray) -> np.ndarray:
    """Computes a Catmull-Rom curve through (N, 2) points: (8 * (N - 1) + 1, 2)."""
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    curve = start + 0.5 * _T * (
        end - before + _T * (2 * before - 5 * start + 4 * end - after + _T * (3 * (start - end) + after - before))
    )
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def bump(x: np.ndarray, centre: float | np.ndarray, width: float) -> np.ndarray:
    """Computes a Gaussian of height 1."""
    return np.exp(-np.square((x - centre) * (1 / width)))


class Poses:
    """Rotations of one head and its placements in the same number of photos. Letter: B samples.

    Attributes:
        turns: sine and cosine of the yaw, sine and cosine of the pitch, (B,) each.
        rotation: (B, 3, 3), from the head frame to the view frame with depth.
        to_px: (B, 2, 2) and offset_px: (B, 2), from the view frame to pixels.
    """

    def __init__(self, samples: Sequence[Sample], *, photo_px: int) -> None:
        yaw, pitch, roll, scale_px = np.array([[s.yaw, s.pitch, s.roll, s.scale_px] for s in samples]).T
        sin, cos, sin_pitch, cos_pitch = self.turns = (np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch))
        zero = np.zeros_like(sin)
        rows = [
            [cos, zero, sin],
            [-sin_pitch * sin, cos_pitch, sin_pitch * cos],
            [-cos_pitch * sin, -sin_pitch, cos_pitch * cos],
        ]
        self.rotation = np.array(rows).transpose(2, 0, 1)
        self.to_px = np.empty((len(samples), 2, 2))
        self.to_px[:, 0, 0] = self.to_px[:, 1, 1] = scale_px * np.cos(roll)
        self.to_px[:, 1, 0] = scale_px * np.sin(roll)
        self.to_px[:, 0, 1] = -self.to_px[:, 1, 0]
        face_centre = 0.35 * self.rotation[:, :2, 1] + 0.5 * self.rotation[:, :2, 2]
        self.offset_px = np.zeros((len(samples), 2))
        self.offset_px = 0.5 * photo_px - self.pixels((face_centre - [s.shift for s in samples])[:, None])[:, 0]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Maps the head frame (B, N, 3) to pixels of the photos (B, N, 2), in the points' precision."""
        to_pixels = (self.to_px @ self.rotation[:, :2]).transpose(0, 2, 1).astype(points.dtype)
        return points @ to_pixels + self.offset_px[:, None].astype(points.dtype)

    def pixels(self, view_points: np.ndarray) -> np.ndarray:
        """Maps the view frame (B, N, 2) to pixels of the photos (B, N, 2)."""
        return view_points @ self.to_px.transpose(0, 2, 1) + self.offset_px[:, None]


class HeadSurface:
    """The head of one identity; computed once and shared by its samples. Letters: L levels, A angles.

    Attributes:
        person: the identity of the head.
        sections: float32 (3, L), half width, half depth and centre of the ellipse at each of LEVELS.
        x, y: float32 (L, A) and (L, 1), the positions of the surface without relief at LEVELS and ANGLES.
        relief: float32 (L, A), its height along z.
    """

    def __init__(self, person: Identity) -> None:
        self.person = person
        self._sections, self._outline_y = self._shape()
        self._outline_sections = [np.interp(self._outline_y, LEVELS, values) for values in self._sections]
        self.sections = self._sections.astype(np.float32)
        self.x = self.sections[0, :, None] * np.sin(ANGLES)
        self.y = LEVELS[:, None]
        self.relief = self._relief(self.x, self.y) * np.clip(np.cos(ANGLES) * 3, 0, 1)

    def _shape(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sections in double precision (3, L), and the heights (K,) at which the outline is drawn."""
        p = self.person
        crown, jaw, chin = p.crown_y, p.jaw_y, p.chin_y
        side = _smooth_curve(
            np.array(
                [
                    [0.0, crown],
                    [0.50 * p.temple_width, 0.935 * crown],
                    [0.85 * p.temple_width, 0.70 * crown],
                    [1.00 * p.temple_width, 0.36 * crown],
                    [0.5 * (p.temple_width + p.cheek_width), 0.0],
                    [p.cheek_width, 0.42],
                    [0.4 * p.cheek_width + 0.6 * p.jaw_width, 0.42 + 0.6 * (jaw - 0.42)],
                    [p.jaw_width, jaw],
                    [0.55 * p.jaw_width + 0.55 * p.chin_width, jaw + 0.58 * (chin - jaw)],
                    [p.chin_width, chin - 0.07],
                    [0.0, chin],
                ]
            )
        )
        front = _smooth_curve(
            np.array(
                [
                    [crown, 0.1],
                    [0.86 * crown, 0.68],
                    [0.55 * crown, 1.0],
                    [-0.28, 1.08],
                    [0.05, 1.05],
                    [0.6, 1.10],
                    [p.mouth_y, 1.14],
                    [0.5 * (p.mouth_y + chin), 1.08 + 0.5 * p.chin_depth],
                    [chin - 0.12, 1.03 + p.chin_depth],
                    [chin, 0.84 + p.chin_depth],
                ]
            )
        )
        rear = np.array(
            [[crown, -0.1], [-0.9, -1.15], [0.0, -1.2], [0.6, -0.8], [jaw, -0.1], [chin, 0.72 + p.chin_depth]]
        )
        width = np.maximum(np.interp(LEVELS, side[:, 1], side[:, 0], left=0, right=0), 0.04)
        front_z = np.interp(LEVELS, front[:, 0], front[:, 1])
        rear_z = np.interp(LEVELS, rear[:, 0], rear[:, 1])
        return np.stack([width, (front_z - rear_z) / 2, (front_z + rear_z) / 2]), side[1:-1:2, 1]

    def _relief(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = self.person
        across = np.abs(x)
        along = np.clip((y + 0.16) / (p.nose_length + 0.16), 0, 1)
        nose_x = np.abs(x - p.nose_skew * along)
        ridge = p.nose_bridge + (p.nose_height - p.nose_bridge) * along**1.6 + p.nose_hump * np.sin(np.pi * along)
        fade = np.clip((y + 0.30) / 0.16, 0, 1) * np.clip((p.nose_length + 0.15 - y) / 0.17, 0, 1)
        ridge_width = p.nose_bridge_width + (p.nose_tip - p.nose_bridge_width) * along**2
        nose = ridge * fade * np.exp(-np.square(nose_x / (1.25 * ridge_width)))
        wing = bump(nose_x, 0.70 * p.nose_width, 0.42 * p.nose_width) * bump(y, p.nose_length + 0.02, 0.10)
        nose = np.maximum(nose, 0.55 * p.nose_height * wing)
        sockets = p.socket_depth * bump(across, p.eye_spacing - 0.03, 0.24) * bump(y, p.eye_y - 0.04, 0.17)
        brow = p.brow_ridge * bump(across, 0.36, 0.34) * bump(y, -p.brow_y, 0.11)
        cheek = p.cheekbone * bump(across, 0.62, 0.24) * bump(y, 0.42, 0.20)
        fold_x = p.nose_width + 0.06 + 0.34 * np.clip(y - p.nose_length, 0, 1)
        fold = p.fold_depth * bump(across, fold_x, 0.07) * bump(y, 0.5 * (p.nose_length + p.mouth_y) + 0.08, 0.22)
        lips = 0.09 * bump(x, 0, 0.75 * p.mouth_width) * bump(y, p.mouth_y, 0.13)
        dent = 0.06 * bump(x, 0, 0.30) * bump(y, 0.55 * p.mouth_y + 0.45 * p.chin_y, 0.09)
        chin = 0.08 * bump(x, 0, 0.8 * p.chin_width) * bump(y, p.chin_y - 0.16, 0.13)
        return nose - sockets + brow + cheek - fold + lips - dent + chin

    def _surface(self, angle: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Maps points with an angle around the vertical axis and a height, (S, N) each, to the head frame (S, N, 3)."""
        row = ((y - TOP_Y) / LEVEL_STEP).astype(np.float32)
        column = ((angle + MAX_ANGLE) / ANGLE_STEP).astype(np.float32)
        relief = cv2.remap(self.relief, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        width, depth, centre_z = (np.interp(y, LEVELS, values) for values in self._sections)
        points = np.empty((*y.shape, 3))
        points[..., 0] = width * np.sin(angle)
        points[..., 1] = y
        points[..., 2] = centre_z + depth * np.cos(angle) + relief
        return points

    def place(self, points: np.ndarray) -> np.ndarray:
        """Maps angle around the vertical axis, height, and distance relative to the skin's to the head frame."""
        placed = self._surface(points[..., 0], points[..., 1])
        placed[..., 0] *= points[..., 2]
        placed[..., 2] *= points[..., 2]
        return placed

    def lift(self, points: np.ndarray) -> np.ndarray:
        """Maps points (S, N, 2) of the face seen from the front to the head frame (S, N, 3)."""
        x, y = points[..., 0], points[..., 1]
        return self._surface(np.arcsin(np.clip(x / np.interp(y, LEVELS, self._sections[0]), -1, 1)), y)

    def outline(self, poses: Poses) -> np.ndarray:
        """Returns the head's border in each pose, in the view frame: (B, 2, K, 2), left and right, crown to chin."""
        width, depth, centre_z = self._outline_sections
        sin, cos, sin_pitch, cos_pitch = (value[:, None] for value in poses.turns)
        half = np.sqrt(np.square(cos * width) + np.square(sin * depth))
        tilt = (sin_pitch * sin * cos) * (np.square(depth) - np.square(width)) / half
        middle_v = cos_pitch * self._outline_y + (sin_pitch * cos) * centre_z
        middle_u = sin * centre_z
        view = np.empty((*half.shape[:1], 2, half.shape[1], 2))
        view[:, 0, :, 0], view[:, 0, :, 1] = middle_u - half, middle_v - tilt
        view[:, 1, :, 0], view[:, 1, :, 1] = middle_u + half, middle_v + tilt
        return view
