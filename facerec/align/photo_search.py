"""Searches a photo for faces: in a first pass, then at other scales and in quarter turns until a face is found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from facerec.align.faces import Faces

_SMALLEST_SIDE_PX = 64


@dataclass(frozen=True, kw_only=True)
class Search:
    """How far to search a photo.

    Attributes:
        longest_side_px: side of the photo in the first pass. Larger photos are reduced to it, smaller ones are enlarged
            to half of it.
        further_sides_px: longest sides with which larger photos are searched if nothing was found, in this order.
        turns: also search the photo rotated by 90, 180 and 270 degrees.
        sure_score: a face with this score ends the search after the first pass.
    """

    longest_side_px: int
    further_sides_px: tuple[int, ...]
    turns: bool
    sure_score: float

    def rounds(self, photo_side_px: int) -> Iterator[tuple[int, tuple[int, ...], float]]:
        """Yields the passes over a photo with that longest side, cheapest first: longest side in pixels, quarter
        turns, and the score of a face that ends the search after the pass.

        Faces that fill the photo get higher scores in a smaller view, so half and a quarter of the side come next. An
        upright face gets the highest score, so all four turns are compared in one view.
        """
        first_px = min(self.longest_side_px, max(photo_side_px, self.longest_side_px // 2))
        every_turn = (0, 1, 2, 3) if self.turns else (0,)
        yield first_px, (0,), self.sure_score
        yield first_px // 2, every_turn, self.sure_score
        yield first_px // 4, every_turn, 0.0
        yield first_px, every_turn[1:], 0.0
        side_px = first_px
        for further_px in self.further_sides_px:
            if min(further_px, photo_side_px) > side_px:
                side_px = min(further_px, photo_side_px)
                yield side_px, every_turn, 0.0


def search_photo(photo: np.ndarray, look: Callable[[np.ndarray], Faces], search: Search) -> Faces:
    """Returns the faces of the pass with the highest score, in pixels of the photo, and the photo's rotation.

    Args:
        photo: uint8 (H, W, 3), RGB.
        look: finds the faces in an image, in pixels of that image.
        search: how far to search.
    """
    best, best_score = _NO_FACES, 0.0
    sides_px: list[int] = []
    for side_px, turns, enough in search.rounds(max(photo.shape[:2])):
        if side_px >= _SMALLEST_SIDE_PX or not sides_px:
            view, scale = _view(photo, side_px)
            for turn in turns:
                faces = look(np.rot90(view, turn))
                if len(faces) and faces.scores.max() > best_score:
                    best, best_score = _in_photo(faces, turn, view.shape[1::-1], scale), float(faces.scores.max())
            sides_px += [side_px] if side_px not in sides_px else []
        if len(best) and best_score >= enough:
            return best
    sides = ", ".join(map(str, sides_px))
    searched = f"searched with a longest side of {sides} pixels{', in all quarter turns' if search.turns else ''}"
    return (
        best if len(best) else Faces(boxes=best.boxes, landmarks=best.landmarks, scores=best.scores, searched=searched)
    )


_NO_FACES = Faces(boxes=np.zeros((0, 4)), landmarks=np.zeros((0, 5, 2)), scores=np.zeros(0))


def _view(photo: np.ndarray, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the photo with that longest side, and its scale factors (2,), x and y."""
    import cv2

    height, width = photo.shape[:2]
    scale = side_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return photo, np.ones(2)
    view = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return view, np.divide(size, (width, height))


def _in_photo(faces: Faces, turn: int, view_size_px: tuple[int, int], scale: np.ndarray) -> Faces:
    """Converts faces of a view that was turned counter-clockwise by some quarters to pixels of the photo.

    `view_size_px` is width and height before the turn.
    """
    width, height = view_size_px
    x, y = faces.landmarks[:, :, 0], faces.landmarks[:, :, 1]
    left, top, wide, high = faces.boxes.T
    # The centre of the first pixel is 0 in landmarks; its corner is 0 in boxes.
    landmarks, boxes = {
        0: ((x, y), (left, top, wide, high)),
        1: ((width - 1 - y, x), (width - top - high, left, high, wide)),
        2: ((width - 1 - x, height - 1 - y), (width - left - wide, height - top - high, wide, high)),
        3: ((y, height - 1 - x), (top, height - left - wide, high, wide)),
    }[turn]
    return Faces(
        boxes=np.stack(boxes, axis=1) / np.tile(scale, 2),
        landmarks=(np.stack(landmarks, axis=2) + 0.5) / scale - 0.5,
        scores=faces.scores,
        turned_deg=90 * turn,
    )
