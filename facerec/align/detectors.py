"""Detects faces and their five landmarks with ONNX files: OpenCV's YuNet and InsightFace's SCRFD."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facerec.align.anchors import SCRFD_STRIDES_PX, YUNET_STRIDES_PX, decode_scrfd, decode_yunet
from facerec.align.face_views import FACE_VIEWS_PX, nearer_landmarks
from facerec.align.faces import Faces
from facerec.align.onnx_network import OnnxNetwork
from facerec.align.photo_search import Search, search_photo
from facerec.core.errors import ConfigError, ModelError

_MULTIPLE_PX = 32  # the coarsest stride of both
_TILE_PX, _TILE_OVERLAP_PX = 1344, 128  # a larger view is searched in tiles, so that memory does not grow with it
_SCORE_OF_KNOWN_FACE = 0.3  # a lower minimum, for views that certainly show a face


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The properties of a family of detectors.

    Attributes:
        name: for the user.
        decode: the network's outputs, their names, height and width of the image, the minimal score -> faces.
        prepare: uint8 (H, W, 3), RGB -> float32 (1, 3, H, W), normalised as in the network's training.
        is_square: True if it takes a square, as in InsightFace's code; else sides that are multiples of 32.
        min_score, max_overlap: the values of its authors' code, or close to them.
        sure_score: upright faces reach it; faces rotated by 90 or 180 degrees do not; see docs/alignment.md.
    """

    name: str
    decode: Callable[[Sequence[np.ndarray], Sequence[str], tuple[int, int], float], Faces]
    prepare: Callable[[np.ndarray], np.ndarray]
    is_square: bool
    min_score: float
    max_overlap: float
    sure_score: float


def _bgr_blob(view: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.dnn.blobFromImage(view, swapRB=True)  # three times as fast as numpy


YUNET = Kind(
    name="YuNet",
    decode=lambda outputs, names, size_px, min_score: decode_yunet(
        dict(zip(names, outputs, strict=True)), size_px=size_px, min_score=min_score
    ),
    prepare=_bgr_blob,
    is_square=False,
    min_score=0.6,
    max_overlap=0.3,
    sure_score=0.925,
)
SCRFD = Kind(
    name="SCRFD",
    decode=lambda outputs, names, size_px, min_score: decode_scrfd(outputs, size_px=size_px, min_score=min_score),
    prepare=lambda view: np.ascontiguousarray((view.transpose(2, 0, 1)[None] - np.float32(127.5)) / np.float32(128)),
    is_square=True,
    min_score=0.5,
    max_overlap=0.4,
    sure_score=0.7,
)


class OnnxDetector:
    """Finds faces with the network of a file; see `open_detector`. Several threads may call it."""

    def __init__(
        self, *, network: OnnxNetwork, kind: Kind, min_score: float, max_overlap: float, search: Search, refine: bool
    ) -> None:
        self.network = network
        self.kind = kind
        self.min_score = min_score
        self.max_overlap = max_overlap
        self.search = search
        self.refine = refine

    def __call__(self, photos: Sequence[np.ndarray]) -> list[Faces]:
        """Returns the faces of each photo, uint8 (H, W, 3), RGB; the photos do not influence each other.

        Raises:
            ModelError: the file's network does not run, or its outputs have other shapes.
        """
        return [search_photo(photo, self._look, self.search) for photo in photos]

    def nearer_landmarks(self, photo: np.ndarray, faces: Faces, number: int) -> np.ndarray:
        """Detects the landmarks of one face of a photo again, in views of this face alone: (5, 2)."""
        if not self.refine:
            return faces.landmarks[number]
        views_px: Sequence[tuple[int, int]] = FACE_VIEWS_PX
        if self.network.fixed_size_px is not None:  # each view takes as long as the whole photo
            views_px = tuple(view for view in views_px if view[0] <= min(self.network.fixed_size_px))[:1]
        return nearer_landmarks(
            photo,
            box=faces.boxes[number],
            landmarks=faces.landmarks[number],
            look=lambda view: self._look(view, min_score=min(self.min_score, _SCORE_OF_KNOWN_FACE)),
            views_px=views_px,
        )

    def _look(self, view: np.ndarray, *, min_score: float | None = None) -> Faces:
        """Returns the faces above the minimal score, without weaker overlapping ones; in pixels of the view."""
        import cv2

        most_px = self.network.fixed_size_px or (_TILE_PX, _TILE_PX)
        lowest = self.min_score if min_score is None else min_score
        parts = []
        for top, bottom in _tiles(view.shape[0], most_px[0]):
            for left, right in _tiles(view.shape[1], most_px[1]):
                seen = self._seen(view[top:bottom, left:right], lowest)
                parts.append((seen.boxes + [left, top, 0, 0], seen.landmarks + [left, top], seen.scores))
        boxes, landmarks, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.0, self.max_overlap)
        chosen = np.asarray(kept, dtype=np.int64).ravel()
        return Faces(boxes=boxes[chosen], landmarks=landmarks[chosen], scores=scores[chosen])

    def _seen(self, view: np.ndarray, min_score: float) -> Faces:
        """Returns the positions of the network's grids that reach the score, as faces in pixels of the view."""
        height, width = self._canvas_px(*view.shape[:2])
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
        canvas[: view.shape[0], : view.shape[1]] = view
        outputs = self.network(self.kind.prepare(canvas))
        try:
            return self.kind.decode(outputs, self.network.output_names, (height, width), min_score)
        except ModelError as error:
            raise ModelError(f"{self.network.path}: {error}") from None

    def _canvas_px(self, height: int, width: int) -> tuple[int, int]:
        if self.network.fixed_size_px is not None:
            return self.network.fixed_size_px
        if self.kind.is_square:
            height = width = max(height, width)
        return -(-height // _MULTIPLE_PX) * _MULTIPLE_PX, -(-width // _MULTIPLE_PX) * _MULTIPLE_PX


def _tiles(side_px: int, most_px: int) -> list[tuple[int, int]]:
    """Returns start and end of the smallest number of equal tiles that cover a side with an overlap."""
    if side_px <= most_px:
        return [(0, side_px)]
    overlap_px = min(_TILE_OVERLAP_PX, most_px // 4)
    num_tiles = -(-(side_px - overlap_px) // (most_px - overlap_px))
    step_px = (side_px - overlap_px) / num_tiles
    return [(round(i * step_px), round((i + 1) * step_px) + overlap_px) for i in range(num_tiles)]


def open_detector(
    *,
    weights: str,
    min_score: float | None = None,
    max_overlap: float | None = None,
    longest_side_px: int = 640,
    further_sides_px: Sequence[int] = (1280, 2560),
    turns: bool = True,
    sure_score: float | None = None,
    refine: bool = True,
    engine: str = "auto",
) -> OnnxDetector:
    """Opens a file of OpenCV's YuNet or of InsightFace's SCRFD (with landmarks), recognised by its outputs.

    Args:
        weights: the `.onnx`.
        min_score: faces with a lower score are ignored, 0 to 1; None: 0.6 with YuNet, 0.5 with SCRFD.
        max_overlap: of two faces that overlap more (intersection over union), the weaker is dropped; None: 0.3 and 0.4.
        longest_side_px: larger photos are reduced to this side in the first pass, smaller ones enlarged to half of it.
            Faces that are only a few pixels high in it are not found.
        further_sides_px: sides with which larger photos are searched if nothing was found, in this order.
        turns: if no face reaches `sure_score`, photos are searched in all quarter turns.
        sure_score: a face with this score ends the search after the first pass; else quarter turns and smaller sides
            are searched too, and the highest score counts. None: 0.925 with YuNet, 0.7 with SCRFD.
        refine: detect the chosen face again in four views of it alone, for more accurate landmarks.
        engine: runs the network: auto, onnxruntime or opencv.

    Raises:
        ConfigError: a value is impossible, or does not fit the file.
        ModelError: the file does not exist, or is neither of the two.
    """
    if longest_side_px < _MULTIPLE_PX:
        raise ConfigError(f"detector.longest_side_px={longest_side_px}; expected {_MULTIPLE_PX} or more")
    sides_px = list(further_sides_px)
    if sides_px != sorted(set(sides_px)) or (sides_px and sides_px[0] < _MULTIPLE_PX):
        raise ConfigError(f"detector.further_sides_px={sides_px}; expected increasing sides in pixels, or []")
    for name, share in (("min_score", min_score), ("max_overlap", max_overlap), ("sure_score", sure_score)):
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"detector.{name}={share}; expected a number from 0 to 1")
    network = OnnxNetwork(path=Path(weights).expanduser(), engine=engine)
    kind = _kind_of(network)
    if network.fixed_size_px is not None and longest_side_px > min(network.fixed_size_px):
        raise ConfigError(
            f"detector.longest_side_px={longest_side_px}, but {weights} takes {network.fixed_size_px[0]} x "
            f"{network.fixed_size_px[1]} pixels; give {min(network.fixed_size_px)} or less"
        )
    return OnnxDetector(
        network=network,
        kind=kind,
        min_score=kind.min_score if min_score is None else min_score,
        max_overlap=kind.max_overlap if max_overlap is None else max_overlap,
        search=Search(
            longest_side_px=longest_side_px,
            further_sides_px=tuple(sides_px),
            turns=turns,
            sure_score=kind.sure_score if sure_score is None else sure_score,
        ),
        refine=refine,
    )


def _kind_of(network: OnnxNetwork) -> Kind:
    names = network.output_names
    if set(names) == {f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in YUNET_STRIDES_PX}:
        return YUNET
    if len(names) in SCRFD_STRIDES_PX:
        return SCRFD
    raise ModelError(
        f"{network.path}: its outputs are {', '.join(sorted(names)[:12])}; expected a YuNet of 2023 or later (cls_8 "
        "... kps_32), or an SCRFD with landmarks, whose name has kps in it (9 or 15 outputs)"
    )
