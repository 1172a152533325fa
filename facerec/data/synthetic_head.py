"""The synthetic head as a surface: where a feature lies in depth, the outline in a pose, and how light falls on it.

The head is a stack of elliptic sections, one for each height, plus a relief (nose, sockets, cheekbones, lips, chin)
along z. A pose rotates it; the projection is orthographic. Two frames: the head's (see synthetic_identity) and the
view's, after yaw and pitch: u to the right, v down, in head units. Roll, scale and shift come later, in the image.

Arrays here are small and many, so their code is written for few NumPy calls.
"""

import math

import numpy as np

from facerec.data.synthetic_identity import Identity, Sample

_TOP_Y, _BOTTOM_Y, _NUM_LEVELS = -1.75, 1.85, 100
_MAX_ANGLE, _NUM_ANGLES = 1.9, 64
_LEVEL_STEP = (_BOTTOM_Y - _TOP_Y) / (_NUM_LEVELS - 1)
_ANGLE_STEP = 2 * _MAX_ANGLE / (_NUM_ANGLES - 1)
_LEVELS = np.linspace(_TOP_Y, _BOTTOM_Y, _NUM_LEVELS)
_ANGLES = np.linspace(-_MAX_ANGLE, _MAX_ANGLE, _NUM_ANGLES)


def smooth_curve(points: np.ndarray, *, num_per_segment: int = 8) -> np.ndarray:
    """Catmull-Rom curve through (N, D) points: ((N - 1) * num_per_segment + 1, D)."""
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    t = np.linspace(0, 1, num_per_segment, endpoint=False)[:, None]
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    curve = start + 0.5 * t * (
        end - before + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )
    return np.concatenate([curve.reshape(-1, points.shape[1]), points[-1:]])


def _bump(x: np.ndarray, centre: float | np.ndarray, width: float) -> np.ndarray:
    return np.exp(-np.square((x - centre) * (1 / width)))


class Pose:
    """Rotation of the head and its placement in the photo."""

    def __init__(self, sample: Sample, *, photo_px: int) -> None:
        self.yaw, self.scale_px = sample.yaw, sample.scale_px
        self.sin_yaw, self.cos_yaw = sin_yaw, cos_yaw = math.sin(sample.yaw), math.cos(sample.yaw)
        self.sin_pitch, self.cos_pitch = sin_pitch, cos_pitch = math.sin(sample.pitch), math.cos(sample.pitch)
        self.rotation = np.array(
            [
                [cos_yaw, 0, sin_yaw],
                [-sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw],
                [-cos_pitch * sin_yaw, -sin_pitch, cos_pitch * cos_yaw],
            ]
        )
        across, along = sample.scale_px * math.cos(sample.roll), sample.scale_px * math.sin(sample.roll)
        self.to_px = np.array([[across, -along], [along, across]])
        face_centre = self.rotation[:2] @ (0.0, 0.35, 0.5) - sample.shift
        self.offset_px = 0.5 * photo_px - self.to_px @ face_centre

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head frame (..., 3) -> pixels of the photo (..., 2)."""
        return points @ (self.to_px @ self.rotation[:2]).T + self.offset_px

    def pixels(self, view_points: np.ndarray) -> np.ndarray:
        """View frame (..., 2) -> pixels of the photo (..., 2)."""
        return view_points @ self.to_px.T + self.offset_px


class HeadSurface:
    """The head of one identity; computed once and shared by its samples."""

    def __init__(self, person: Identity) -> None:
        self.person = person
        self._width, self._depth, self._centre_z, self._outline_y = self._sections()
        self._inverse_sections = [s.astype(np.float32) for s in (1 / self._width, 1 / self._depth, self._centre_z)]
        sin, cos = np.sin(_ANGLES).astype(np.float32), np.cos(_ANGLES).astype(np.float32)
        x = self._width.astype(np.float32)[:, None] * sin
        y = _LEVELS.astype(np.float32)[:, None]
        self._relief_table = self._relief(x, y) * np.clip(cos * 3, 0, 1)
        z = self._centre_z.astype(np.float32)[:, None] + self._depth.astype(np.float32)[:, None] * cos
        self._normal_table = self._normals(x, z + self._relief_table)
        self._pigment_table = self._pigment(x, y, cos)
        self._outline_sections = np.stack(
            [np.interp(self._outline_y, _LEVELS, s) for s in (self._width, self._depth, self._centre_z)]
        )

    def _sections(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Half width, half depth and centre of each level's ellipse, and the heights that draw the outline well."""
        p = self.person
        crown, jaw, chin = p.crown_y, p.jaw_y, p.chin_y
        side = smooth_curve(
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
        front = smooth_curve(
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
        rear_y, rear_z = [crown, -0.9, 0.0, 0.6, jaw, chin], [-0.1, -1.15, -1.2, -0.8, -0.1, 0.72 + p.chin_depth]
        width = np.maximum(np.interp(_LEVELS, side[:, 1], side[:, 0], left=0, right=0), 0.04)
        front_z = np.interp(_LEVELS, front[:, 0], front[:, 1])
        rear_z = np.interp(_LEVELS, rear_y, rear_z)
        return width, (front_z - rear_z) / 2, (front_z + rear_z) / 2, side[1:-1:2, 1]

    def _relief(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = self.person
        across = np.abs(x)
        along = np.clip((y + 0.16) / (p.nose_length + 0.16), 0, 1)
        nose_x = np.abs(x - p.nose_skew * along)
        ridge = p.nose_bridge + (p.nose_height - p.nose_bridge) * along**1.6 + p.nose_hump * np.sin(np.pi * along)
        fade = np.clip((y + 0.30) / 0.16, 0, 1) * np.clip((p.nose_length + 0.15 - y) / 0.17, 0, 1)
        ridge_width = p.nose_bridge_width + (p.nose_tip - p.nose_bridge_width) * along**2
        nose = ridge * fade * np.exp(-np.square(nose_x / (1.25 * ridge_width)))
        wing = _bump(nose_x, 0.70 * p.nose_width, 0.42 * p.nose_width) * _bump(y, p.nose_length + 0.02, 0.10)
        nose = np.maximum(nose, 0.55 * p.nose_height * wing)
        sockets = p.socket_depth * _bump(across, p.eye_spacing - 0.03, 0.24) * _bump(y, p.eye_y - 0.04, 0.17)
        brow = p.brow_ridge * _bump(across, 0.36, 0.34) * _bump(y, -p.brow_y, 0.11)
        cheek = p.cheekbone * _bump(across, 0.62, 0.24) * _bump(y, 0.42, 0.20)
        fold_x = p.nose_width + 0.06 + 0.34 * np.clip(y - p.nose_length, 0, 1)
        fold = p.fold_depth * _bump(across, fold_x, 0.07) * _bump(y, 0.5 * (p.nose_length + p.mouth_y) + 0.08, 0.22)
        lips = 0.09 * _bump(x, 0, 0.75 * p.mouth_width) * _bump(y, p.mouth_y, 0.13)
        dent = 0.06 * _bump(x, 0, 0.30) * _bump(y, 0.55 * p.mouth_y + 0.45 * p.chin_y, 0.09)
        chin = 0.08 * _bump(x, 0, 0.8 * p.chin_width) * _bump(y, p.chin_y - 0.16, 0.13)
        return nose - sockets + brow + cheek - fold + lips - dent + chin

    def _normals(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """float32 (levels, angles, 4): unit normals and, last, how much open sky a place sees."""
        import cv2

        dx_dy, dx_da = np.gradient(x, _LEVEL_STEP, _ANGLE_STEP)
        dz_dy, dz_da = np.gradient(z, _LEVEL_STEP, _ANGLE_STEP)
        normal = np.stack([-dz_da, dz_da * dx_dy - dz_dy * dx_da, dx_da], axis=2)
        in_front = (np.abs(_ANGLES) < np.pi / 2)[None, :]
        normal[:, :, 2] = np.where(in_front, np.maximum(normal[:, :, 2], 0), normal[:, :, 2])
        normal /= np.linalg.norm(normal, axis=2, keepdims=True) + 1e-6
        smooth = cv2.GaussianBlur(normal, (3, 3), 0.8)
        hollow = cv2.blur(self._relief_table, (9, 11)) - self._relief_table
        return np.dstack([smooth, 1 - np.clip(2.4 * hollow, -0.10, 0.32)]).astype(np.float32)

    def _pigment(self, x: np.ndarray, y: np.ndarray, facing: np.ndarray) -> np.ndarray:
        """float32 (levels, angles, 4): how dark and how red the skin is, where a beard grows (0 to 1), the relief."""
        p = self.person
        across = np.abs(x)
        cheeks = _bump(across, 0.58, 0.26) * _bump(y, 0.48, 0.24)
        red = 0.7 * p.blush * (cheeks + _bump(x, 0, 0.2) * _bump(y, p.nose_length, 0.16))
        under_eye = (0.10 + 0.14 * p.age) * _bump(across, p.eye_spacing - 0.03, 0.17) * _bump(y, p.eye_y + 0.15, 0.07)
        dark = under_eye + 0.10 * _bump(across, p.eye_spacing, 0.22) * _bump(y, p.eye_y - 0.12, 0.09)
        lower = np.clip((y - 0.62 - 0.55 * np.square(np.maximum(0.7 - across, 0))) / 0.16, 0, 1)
        side = np.clip((across - 0.70) / 0.16, 0, 1) * np.clip((y - 0.05) / 0.25, 0, 1)
        bare = np.square(_bump(x, 0, 1.05 * p.mouth_width)) * _bump(y, p.mouth_y + 0.01, 0.16)
        beard = np.clip(np.maximum(lower, side) - 0.9 * bare, 0, 1) * (facing > -0.2)
        return np.dstack([dark, red, beard, self._relief_table])

    def place(self, angle: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Points given by their angle around the vertical axis and height, (N,) each -> head frame (N, 3)."""
        import cv2

        row = ((y - _TOP_Y) / _LEVEL_STEP).astype(np.float32)
        column = ((angle + _MAX_ANGLE) / _ANGLE_STEP).astype(np.float32)
        relief = cv2.remap(
            self._relief_table, column[None], row[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        width, depth, centre_z = (np.interp(y, _LEVELS, s) for s in (self._width, self._depth, self._centre_z))
        return np.stack([width * np.sin(angle), y, centre_z + depth * np.cos(angle) + relief[0]], axis=1)

    def lift(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the face as seen from the front -> head frame (N, 3)."""
        x, y = points.T
        return self.place(np.arcsin(np.clip(x / np.interp(y, _LEVELS, self._width), -1, 1)), y)

    def outline(self, pose: Pose) -> np.ndarray:
        """Border of the head in this pose, in pixels: (2, K, 2), left and right, each from crown to chin."""
        width, depth, centre_z = self._outline_sections
        sin, cos = pose.sin_yaw, pose.cos_yaw
        half = np.sqrt(np.square(cos * width) + np.square(sin * depth))
        tilt = (pose.sin_pitch * sin * cos) * (np.square(depth) - np.square(width)) / half
        middle_v = pose.cos_pitch * self._outline_y + (pose.sin_pitch * cos) * centre_z
        middle_u = sin * centre_z
        view = np.empty((2, len(half), 2))
        view[0, :, 0], view[0, :, 1] = middle_u - half, middle_v - tilt
        view[1, :, 0], view[1, :, 1] = middle_u + half, middle_v + tilt
        return pose.pixels(view)

    def light_field(
        self, sample: Sample, pose: Pose, outline_px: np.ndarray, *, photo_px: int, cell_px: float
    ) -> np.ndarray:
        """What light and pigment do to the colours of the photo.

        Args:
            outline_px: what `outline` gave for this pose.
            photo_px: height and width of the photo.
            cell_px: the wanted size of a cell.

        Returns:
            uint8 (cells, cells, 3) over the whole photo: factors on red, green and blue; 128 is 1.
        """
        num_cells = round(photo_px / cell_px)
        px_per_cell = photo_px / num_cells
        around = (90 * sample.ambient_colour + 58 * sample.light_colour).astype(np.float32)
        field = np.empty((num_cells, num_cells, 3), np.uint8)
        field[:] = np.minimum(around, 255).astype(np.uint8)
        flat = outline_px.reshape(-1, 2)
        margin_px = 0.25 * sample.scale_px
        left, top = (max(int(edge), 0) for edge in (flat.min(axis=0) - margin_px) / px_per_cell)
        right, bottom = (min(int(edge), num_cells) for edge in (flat.max(axis=0) + margin_px) / px_per_cell)
        x = (np.arange(left, right, dtype=np.float32) + 0.5) * px_per_cell - (0.5 + float(pose.offset_px[0]))
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5) * px_per_cell - (0.5 + float(pose.offset_px[1]))
        to_view = (pose.to_px.T / pose.scale_px**2).astype(np.float32)
        u = to_view[0, 0] * x + (to_view[0, 1] * y)[:, None]
        v = to_view[1, 0] * x + (to_view[1, 1] * y)[:, None]
        field[top:bottom, left:right] = self._light_on_head(u, v, sample, pose, around)
        return field

    def _light_on_head(
        self, u: np.ndarray, v: np.ndarray, sample: Sample, pose: Pose, around: np.ndarray
    ) -> np.ndarray:
        """The light field at view-frame positions (R, C): uint8 (R, C, 3), fading to `around` beyond the head."""
        import cv2

        column, row, beyond = self._meet(u, v, pose)
        edge = cv2.BORDER_REPLICATE
        normal = cv2.remap(self._normal_table, column, row, cv2.INTER_LINEAR, borderMode=edge)
        pigment = cv2.remap(self._pigment_table, column, row, cv2.INTER_LINEAR, borderMode=edge)
        light = (sample.light @ pose.rotation).astype(np.float32)
        openness = normal[:, :, 3]
        facing = normal[:, :, :3] @ light

        # The relief shades what lies behind it: one look towards the light, 0.2 head units away.
        step = 0.20 / (float(np.hypot(light[0], light[1])) + 0.2)
        toward_column = column + np.float32(step * light[0] / _ANGLE_STEP)
        toward_row = row + np.float32(step * light[1] / _LEVEL_STEP)
        there = cv2.remap(self._relief_table, toward_column, toward_row, cv2.INTER_LINEAR)
        rise = there - pigment[:, :, 3] - np.float32(step * light[2])
        shadow = np.minimum(np.maximum(rise * 3, 0), 0.55)

        direct = np.maximum(facing * 0.85 + 0.15, 0) * (1 - shadow)
        direct += np.float32(sample.shine) * np.square(np.square(np.square(np.maximum(facing, 0))))
        sky = 0.80 - 0.20 * normal[:, :, 1]
        pale = openness * (1 - pigment[:, :, 0])
        ruddy = pale - openness * pigment[:, :, 1] * 0.13
        factor = np.empty((*u.shape, 3), np.float32)
        for channel, tint in enumerate((pale, ruddy, ruddy)):
            ambient, key = 128 * float(sample.ambient_colour[channel]), 128 * float(sample.light_colour[channel])
            lit = (sky * ambient + direct * key) * tint
            if sample.beard:
                lack = 1 - 0.9 * sample.hair_colour[channel] / self.person.skin[channel]
                lit *= 1 - pigment[:, :, 2] * (sample.beard * max(lack, 0.0))
            factor[:, :, channel] = lit
        factor += (around - factor) * np.minimum(beyond * 3.5, 1)[:, :, None]
        return cv2.convertScaleAbs(factor)

    def _meet(self, u: np.ndarray, v: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where lines of sight meet the head: column and row in the tables, and how far they miss it."""
        sin, cos = pose.sin_yaw, pose.cos_yaw
        first_row = (self.person.crown_y + 0.10 - _TOP_Y) / _LEVEL_STEP
        last_row = (self.person.chin_y - 0.16 - _TOP_Y) / _LEVEL_STEP
        deep: float | np.ndarray = 0.9
        line_u, line_v = u, v
        for is_last in (False, True):
            y = (line_v - pose.sin_pitch * deep) * (1 / pose.cos_pitch)
            row = np.minimum(np.maximum((y - _TOP_Y) * (1 / _LEVEL_STEP), first_row), last_row)
            index = row.astype(np.intp)
            a, b, centre_z = (table.take(index) for table in self._inverse_sections)
            # On the ellipse: (cos u - sin d)^2 a^2 + (sin u + cos d - centre)^2 b^2 = 1, to be solved for the depth d.
            across = sin * line_u - centre_z
            sin_a, cos_b, along_a, across_b = sin * a, cos * b, (cos * line_u) * a, across * b
            quadratic = sin_a * sin_a + cos_b * cos_b
            linear = cos_b * across_b - sin_a * along_a
            discriminant = linear * linear - quadratic * (along_a * along_a + across_b * across_b - 1)
            deep = (np.sqrt(np.maximum(discriminant, 0)) - linear) / quadratic
            angle = np.arctan2(along_a - sin_a * deep, across_b + cos_b * deep)
            column = (angle + _MAX_ANGLE) * (1 / _ANGLE_STEP)
            if not is_last:
                # What stands out towards the viewer is seen where the smooth head would be seen a little further on.
                relief = self._relief_table[index, np.minimum(np.maximum(column, 0), _NUM_ANGLES - 1).astype(np.intp)]
                line_u = u - relief * np.float32(pose.rotation[0, 2])
                line_v = v - relief * np.float32(pose.rotation[1, 2])
        beyond = np.maximum(-discriminant, 0) / quadratic
        outside = np.maximum(y - self.person.chin_y, self.person.crown_y - y)
        return column, row, np.maximum(beyond, outside)
