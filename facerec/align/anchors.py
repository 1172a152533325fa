"""Decodes the outputs of face detectors: a face for each position of a grid, in pixels of the image.

YuNet: W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector", 2023, and OpenCV's face_detect.cpp.
SCRFD: J. Guo et al., "Sample and computation redistribution for efficient face detection", arXiv 2105.04714, and
InsightFace's detection/scrfd.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from facerec.align.faces import Faces
from facerec.core.errors import ModelError

YUNET_STRIDES_PX = (8, 16, 32)
SCRFD_STRIDES_PX = {9: (8, 16, 32), 15: (8, 16, 32, 64, 128)}
"""By the number of outputs, three per stride."""


def decode_yunet(outputs: Mapping[str, np.ndarray], *, size_px: tuple[int, int], min_score: float = 0.0) -> Faces:
    """Returns every position of the three grids as a face, if its score reaches the minimum.

    Args:
        outputs: `cls_8`, `obj_8` (..., 1), `bbox_8` (..., 4), `kps_8` (..., 10) with a row for each position of the
            grid with stride 8, row by row; the same for 16 and 32.
        size_px: height and width of the image, multiples of 32.
        min_score: the minimum; few positions reach 0.3, which saves most of the work.
    """
    boxes, landmarks, scores = [], [], []
    for stride in YUNET_STRIDES_PX:
        of_class, of_object, box, points = (
            outputs[f"{name}_{stride}"].reshape(-1, width)
            for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        )
        score = np.sqrt(np.clip(of_class, 0, 1, dtype=np.float64) * np.clip(of_object, 0, 1)).ravel()
        sure = np.flatnonzero(score >= min_score)
        places, box, points = _places(size_px, stride)[sure], box[sure].astype(np.float64), points[sure]
        size = np.exp(box[:, 2:])
        boxes.append(np.hstack([places + box[:, :2] - size / 2, size]) * stride)
        landmarks.append((places[:, None] + points.reshape(-1, 5, 2)) * stride)
        scores.append(score[sure])
    return Faces(boxes=np.concatenate(boxes), landmarks=np.concatenate(landmarks), scores=np.concatenate(scores))


def decode_scrfd(outputs: Sequence[np.ndarray], *, size_px: tuple[int, int], min_score: float = 0.0) -> Faces:
    """Returns every anchor of the grids as a face, if its score reaches the minimum.

    Args:
        outputs: for each stride scores (..., 1), the distances from the anchor to the box's left, top, right and bottom
            (..., 4), and those to five points (..., 10), in strides; in any order. The anchors of a position follow
            each other, and the positions go row by row.
        size_px: height and width of the image, multiples of 32.
        min_score: the minimum.

    Raises:
        ModelError: the outputs have other shapes.
    """
    strides = SCRFD_STRIDES_PX.get(len(outputs), ())
    # The finest grid has the most rows; the last dimension of an output shows which of the three kinds it is.
    by_width = {
        width: sorted((o.reshape(-1, width) for o in outputs if o.shape[-1] == width), key=len, reverse=True)
        for width in (1, 4, 10)
    }
    places = [_places(size_px, stride) for stride in strides]
    num_rows = [len(scores) for scores in by_width[1]]
    fits = len(num_rows) == len(strides) > 0 and all(
        [len(output) for output in by_width[width]] == num_rows for width in (4, 10)
    )
    if not fits or any(not rows or rows % len(at) for rows, at in zip(num_rows, places, strict=True)):
        shapes = ", ".join(str(output.shape) for output in outputs)
        raise ModelError(
            f"outputs {shapes} for an image of {size_px[0]} x {size_px[1]}; expected SCRFD's: scores, boxes and five "
            "points for strides of 8, 16 and 32 pixels, or of 8 to 128"
        )
    boxes, landmarks, scores = [], [], []
    for level, stride in enumerate(strides):
        sure = np.flatnonzero(by_width[1][level] >= min_score)
        score, distances, points = (by_width[width][level][sure].astype(np.float64) for width in (1, 4, 10))
        anchors = places[level].repeat(num_rows[level] // len(places[level]), axis=0)[sure]
        low, high = anchors - distances[:, :2], anchors + distances[:, 2:]
        boxes.append(np.hstack([low, high - low]) * stride)
        landmarks.append((anchors[:, None] + points.reshape(-1, 5, 2)) * stride)
        scores.append(score.ravel())
    return Faces(boxes=np.concatenate(boxes), landmarks=np.concatenate(landmarks), scores=np.concatenate(scores))


def _places(size_px: tuple[int, int], stride_px: int) -> np.ndarray:
    """Returns x and y of the positions of a grid, row by row: float64 (n, 2)."""
    rows, columns = (side // stride_px for side in size_px)
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
