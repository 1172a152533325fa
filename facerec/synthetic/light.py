"""Computes the light on a synthetic head: a coarse field of colour factors over the whole photo."""

from collections.abc import Sequence

import cv2
import numpy as np

from facerec.synthetic.head_surface import (
    ANGLE_STEP,
    ANGLES,
    LEVEL_STEP,
    MAX_ANGLE,
    NUM_ANGLES,
    NUM_LEVELS,
    TOP_Y,
    HeadSurface,
    Poses,
    bump,
)
from facerec.synthetic.identity import Sample

_CELL_PX = 5.0
_RIM = np.float32(0.94)  # short of the horizon, where normals turn too fast for cells of this size


class HeadLight:
    """Light and pigment of one head; the tables are computed once and shared by its samples.

    Letters: B samples, R rows and C columns of cells, L levels and A angles of the head's surface.

    Args:
        head: the surface.
    """

    def __init__(self, head: HeadSurface) -> None:
        self._head, self._person = head, head.person
        self._normal_table = self._normals()
        self._pigment_table = self._pigment()

    def _normals(self) -> np.ndarray:
        """Returns unit normals and, last, how much open sky each place sees: float32 (L, A, 4)."""
        x, (_, depth, centre_z) = self._head.x, self._head.sections
        z = centre_z[:, None] + depth[:, None] * np.cos(ANGLES) + self._head.relief
        dx_dy, dx_da = np.gradient(x, LEVEL_STEP, ANGLE_STEP)
        dz_dy, dz_da = np.gradient(z, LEVEL_STEP, ANGLE_STEP)
        table = np.empty((*x.shape, 4), np.float32)
        table[:, :, 0] = -dz_da
        table[:, :, 1] = dz_da * dx_dy - dz_dy * dx_da
        table[:, :, 2] = np.where(np.abs(ANGLES) < np.pi / 2, np.maximum(dx_da, 0), dx_da)
        length = np.sqrt(np.einsum("lac,lac->la", table[:, :, :3], table[:, :, :3]))
        table[:, :, :3] /= length[:, :, None] + 1e-6
        table = cv2.GaussianBlur(table, (3, 3), 0.8)
        hollow = cv2.blur(self._head.relief, (9, 11)) - self._head.relief
        table[:, :, 3] = 1 - np.clip(2.4 * hollow, -0.10, 0.32)
        return table

    def _pigment(self) -> np.ndarray:
        """Returns how dark and how red the skin is, where a beard grows (0 to 1), and the relief: float32 (L, A, 4)."""
        p, x, y = self._person, self._head.x, self._head.y
        across = np.abs(x)
        cheeks = bump(across, 0.58, 0.26) * bump(y, 0.48, 0.24)
        red = 0.7 * p.blush * (cheeks + bump(x, 0, 0.2) * bump(y, p.nose_length, 0.16))
        under_eye = (0.10 + 0.14 * p.age) * bump(across, p.eye_spacing - 0.03, 0.17) * bump(y, p.eye_y + 0.15, 0.07)
        dark = under_eye + 0.10 * bump(across, p.eye_spacing, 0.22) * bump(y, p.eye_y - 0.12, 0.09)
        lower = np.clip((y - p.nose_length - 0.16 - 0.25 * np.maximum(across - 0.3, 0)) / 0.10, 0, 1)
        side = np.clip((across - 0.72) / 0.14, 0, 1) * np.clip((y - 0.05) / 0.25, 0, 1)
        lips = bump(x, 0, 0.85 * p.mouth_width) * bump(y, p.mouth_y + 0.015, 0.5 * (p.upper_lip + p.lower_lip) + 0.03)
        below = np.clip((y - p.mouth_y - 0.06) / 0.1, 0, 1)
        cheeks_bare = bump(across, 0.55, 0.16) * (1 - below) * bump(y, 0.75, 0.25)
        beard = np.clip(np.maximum(lower, side) - 1.1 * lips - 0.8 * cheeks_bare, 0, 1) * (np.cos(ANGLES) > -0.2)
        table = np.empty((*x.shape, 4), np.float32)
        for channel, values in enumerate((dark, red, beard, self._head.relief)):
            table[:, :, channel] = values
        return table

    def fields(self, samples: Sequence[Sample], poses: Poses, *, photo_px: int) -> np.ndarray:
        """Computes the effect of light and pigment on the colours of the photos.

        All samples are computed together, cell by cell; a field does not depend on the other samples.

        Args:
            samples, poses: B samples and their poses.
            photo_px: height and width of the photos.

        Returns:
            uint8 (B, R, C, 3) over the whole photos: factors on red, green and blue; 128 is 1.
        """
        column, row, beyond = self._meet(*_cell_positions(poses, photo_px), poses)
        normal, pigment = (_look_up(table, column, row) for table in (self._normal_table, self._pigment_table))
        light = np.einsum("bi,bij->jb", [s.light for s in samples], poses.rotation).astype(np.float32)[:, :, None, None]
        openness = normal[..., 3]
        facing = normal[..., 0] * light[0] + normal[..., 1] * light[1] + normal[..., 2] * light[2]

        # The relief shades the surface behind it: one test towards the light, 0.2 head units away.
        step = 0.20 / (np.sqrt(np.square(light[0]) + np.square(light[1])) + 0.2)
        toward_column = column + step * light[0] * np.float32(1 / ANGLE_STEP)
        toward_row = row + step * light[1] * np.float32(1 / LEVEL_STEP)
        rise = _look_up(self._head.relief, toward_column, toward_row) - pigment[..., 3] - step * light[2]
        shadow = np.minimum(np.maximum(rise * 3, 0), np.float32(0.55))

        direct = np.maximum(facing * np.float32(0.85) + np.float32(0.15), 0) * (1 - shadow)
        direct += _column([s.shine for s in samples]) * np.square(np.square(np.square(np.maximum(facing, 0))))
        sky = np.float32(0.80) - np.float32(0.20) * normal[..., 1]
        pale = openness * (1 - pigment[..., 0])
        ruddy = pale - openness * pigment[..., 1] * np.float32(0.13)
        outside = np.minimum(np.maximum((beyond - np.float32(0.03)) * 6, 0), 1)
        field = np.empty((*facing.shape, 3), np.float32)
        for channel, tint in enumerate((pale, ruddy, ruddy)):
            ambient = _column([128 * s.ambient_colour[channel] for s in samples])
            key = _column([128 * s.light_colour[channel] for s in samples])
            skin = self._person.skin[channel]
            beard = _column([s.beard * max(1 - 0.9 * s.hair_colour[channel] / skin, 0.0) for s in samples])
            lit = (sky * ambient + direct * key) * tint * (1 - pigment[..., 2] * beard)
            around = np.float32(0.7) * ambient + np.float32(0.45) * key
            field[..., channel] = lit + (around - lit) * outside
        return cv2.convertScaleAbs(field.reshape(-1, 3)).reshape(field.shape)

    def _meet(self, u: np.ndarray, v: np.ndarray, poses: Poses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Finds where lines of sight (B, R, C) meet the head.

        Returns:
            Column and row in the tables, and the distance in head units by which lines miss the head; (B, R, C) each.
        """
        sin, cos, sin_pitch, cos_pitch = (value.astype(np.float32)[:, None] for value in poses.turns)
        # A section turned by the yaw is an ellipse. Its depth at u = middle + half * sine is near + tilt * sine +
        # bulge * cosine; the angle that has this sine is the angle around the unturned ellipse plus a constant.
        width, depth, centre_z = self._head.sections
        half = np.sqrt(np.square(cos * width) + np.square(sin * depth))
        middle, near, bulge = sin * centre_z, cos * centre_z, width * depth / half
        tilt = (sin * cos) * (depth * depth - width * width) / half
        turned = np.arctan2(sin * depth, cos * width)

        first_of_sample = (NUM_LEVELS * np.arange(len(u)))[:, None, None]
        nod, unnod = sin_pitch[:, :, None], 1 / cos_pitch[:, :, None]
        deep: np.ndarray = np.float32(0.9) * np.ones_like(nod)
        line_u, line_v = u, v
        for is_last in (False, True):
            y = (line_v - nod * deep) * unnod
            row = np.minimum(np.maximum((y - np.float32(TOP_Y)) * np.float32(1 / LEVEL_STEP), 0), NUM_LEVELS - 1)
            level = row.astype(np.intp)
            index = level + first_of_sample
            across, reach = line_u - middle.take(index), half.take(index)
            sine = np.minimum(np.maximum(across / reach, -_RIM), _RIM)
            deep = near.take(index) + tilt.take(index) * sine + bulge.take(index) * np.sqrt(1 - sine * sine)
            angle = np.arcsin(sine) - turned.take(index)
            column = (angle + np.float32(MAX_ANGLE)) * np.float32(1 / ANGLE_STEP)
            if not is_last:
                # Relief towards the viewer is seen at the place where the smooth head would be seen a little later.
                nearest = np.minimum(np.maximum(column, 0), NUM_ANGLES - 1).astype(np.intp)
                relief = self._head.relief.take(level * NUM_ANGLES + nearest)
                line_u = u - relief * _column(poses.rotation[:, 0, 2])
                line_v = v - relief * _column(poses.rotation[:, 1, 2])
        # The same at the crown and below the chin.
        first_row = np.float32((self._person.crown_y + 0.10 - TOP_Y) / LEVEL_STEP)
        last_row = np.float32((self._person.chin_y - 0.16 - TOP_Y) / LEVEL_STEP)
        above_or_below = np.maximum(np.float32(self._person.crown_y) - y, y - np.float32(self._person.chin_y))
        missed_by = np.maximum(np.abs(across) - reach, above_or_below)
        return column, np.minimum(np.maximum(row, first_row), last_row), missed_by


def _column(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns one number for each sample: float32 (B, 1, 1)."""
    return np.array(values, dtype=np.float32)[:, None, None]


def _look_up(table: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Interpolates a table (L, A) or (L, A, K) bilinearly at (B, R, C): (B, R, C) or (B, R, C, K)."""
    num, rows, columns = column.shape
    flat = (num * rows, columns)
    found = cv2.remap(table, column.reshape(flat), row.reshape(flat), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(num, rows, columns, *table.shape[2:])


def _cell_positions(poses: Poses, photo_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centres of the cells in the view frame: u and v, float32 (B, R, C) each."""
    num_cells = round(photo_px / _CELL_PX)
    centre_px = (np.arange(num_cells) + 0.5) * (photo_px / num_cells) - 0.5
    to_view = np.linalg.inv(poses.to_px)
    start = (to_view @ poses.offset_px[:, :, None])[:, :, 0]
    u, v = (
        (to_view[:, axis, 0, None] * centre_px - start[:, axis, None])[:, None, :]
        + (to_view[:, axis, 1, None] * centre_px)[:, :, None]
        for axis in (0, 1)
    )
    return u.astype(np.float32), v.astype(np.float32)
