"""Detectors of faces and their five landmarks from ONNX files: OpenCV's YuNet and InsightFace's SCRFD."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.anchors import SCRFD_STRIDES_PX, YUNET_STRIDES_PX, decode_scrfd, decode_yunet
from facerec.align.faces import Faces, overlaps
from facerec.align.onnx_network import OnnxNetwork
from facerec.core.errors import ConfigError, ModelError

_MULTIPLE_PX = 32  # the coarsest stride of both
_IN_MIRROR = [1, 0, 2, 4, 3]  # which landmark becomes which when left and right are exchanged
_SAME_FACE_OVERLAP = 0.5


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is particular to a family of detectors.

    Attributes:
        name: for the user.
        decode: the network's outputs, their names, height and width of the image -> all faces.
        prepare: uint8 (H, W, 3), RGB -> float32 (1, 3, H, W), as the network was trained.
        is_square: it sees a square, as InsightFace's code does; else sides that are multiples of 32.
        min_score, max_overlap: what its authors' code takes, or near it.
    """

    name: str
    decode: Callable[[Sequence[np.ndarray], Sequence[str], tuple[int, int]], Faces]
    prepare: Callable[[np.ndarray], np.ndarray]
    is_square: bool
    min_score: float
    max_overlap: float


YUNET = Kind(
    name="YuNet",
    decode=lambda outputs, names, size_px: decode_yunet(dict(zip(names, outputs, strict=True)), size_px=size_px),
    prepare=lambda view: np.ascontiguousarray(view[:, :, ::-1].transpose(2, 0, 1)[None], dtype=np.float32),
    is_square=False,
    min_score=0.6,
    max_overlap=0.3,
)
SCRFD = Kind(
    name="SCRFD",
    decode=lambda outputs, names, size_px: decode_scrfd(outputs, size_px=size_px),
    prepare=lambda view: np.ascontiguousarray((view.transpose(2, 0, 1)[None] - np.float32(127.5)) / np.float32(128)),
    is_square=True,
    min_score=0.5,
    max_overlap=0.4,
)


class OnnxDetector:
    """Finds faces with a network from a file; see `open_detector`. Several threads may call it."""

    def __init__(
        self,
        *,
        network: OnnxNetwork,
        kind: Kind,
        min_score: float,
        max_overlap: float,
        longest_side_px: int,
        mirrored: bool,
    ) -> None:
        self.network = network
        self.kind = kind
        self.min_score = min_score
        self.max_overlap = max_overlap
        self.longest_side_px = longest_side_px
        self.mirrored = mirrored

    def __call__(self, photos: Sequence[np.ndarray]) -> list[Faces]:
        """The faces of each photo, uint8 (H, W, 3), RGB; what is found in one depends on no other.

        Raises:
            ModelError: the file's network does not run, or gives outputs of other shapes.
        """
        return [self._faces(photo) for photo in photos]

    def _faces(self, photo: np.ndarray) -> Faces:
        view, scale = self._view(photo)
        faces = self._look(view)
        if self.mirrored and len(faces):
            faces = _averaged(faces, _turned_back(self._look(view[:, ::-1]), width_px=view.shape[1]))
        return Faces(
            boxes=faces.boxes / np.tile(scale, 2),
            landmarks=(faces.landmarks + 0.5) / scale - 0.5,  # the centre of the first pixel is 0, in both
            scores=faces.scores,
        )

    def _view(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The photo with its longest side as asked for, and how much larger it is: (2,), x and y."""
        import cv2

        height, width = photo.shape[:2]
        scale = self.longest_side_px / max(height, width)
        seen = max(1, round(width * scale)), max(1, round(height * scale))
        if seen == (width, height):
            return photo, np.ones(2)
        view = cv2.resize(photo, seen, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return view, np.divide(seen, (width, height))

    def _look(self, view: np.ndarray) -> Faces:
        """The faces above the score, those left out that overlap with a surer one; in pixels of the view."""
        import cv2

        height, width = self._canvas_px(*view.shape[:2])
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
        canvas[: view.shape[0], : view.shape[1]] = view
        outputs = self.network(self.kind.prepare(canvas))
        try:
            every = self.kind.decode(outputs, self.network.output_names, (height, width))
        except ModelError as error:
            raise ModelError(f"{self.network.path}: {error}") from None
        sure = np.flatnonzero(every.scores >= self.min_score)
        kept = cv2.dnn.NMSBoxes(every.boxes[sure].tolist(), every.scores[sure].tolist(), 0.0, self.max_overlap)
        chosen = sure[np.asarray(kept, dtype=np.int64).ravel()]
        return Faces(boxes=every.boxes[chosen], landmarks=every.landmarks[chosen], scores=every.scores[chosen])

    def _canvas_px(self, height: int, width: int) -> tuple[int, int]:
        if self.network.fixed_size_px is not None:
            return self.network.fixed_size_px
        if self.kind.is_square:
            height = width = self.longest_side_px
        return -(-height // _MULTIPLE_PX) * _MULTIPLE_PX, -(-width // _MULTIPLE_PX) * _MULTIPLE_PX


def open_detector(
    *,
    weights: str,
    min_score: float | None = None,
    max_overlap: float | None = None,
    longest_side_px: int = 640,
    mirrored: bool = True,
    engine: str = "auto",
) -> OnnxDetector:
    """Opens a file of OpenCV's YuNet or of InsightFace's SCRFD (one with landmarks); its outputs say which it is.

    Args:
        weights: the `.onnx`.
        min_score: faces below it are passed over, 0 to 1; None: 0.6 with YuNet, 0.5 with SCRFD.
        max_overlap: of two faces that overlap more (intersection over union) the surer stays; None: 0.3 and 0.4.
        longest_side_px: photos are shown with that side, smaller ones enlarged. Faces that are a few pixels high
            in it are not found.
        mirrored: look at the mirror image too, and take the mean of both landmarks: nearer, at twice the time.
        engine: what runs it: auto, onnxruntime or opencv.

    Raises:
        ConfigError: a value that cannot be, or does not go with the file.
        ModelError: the file is not there, or neither of the two.
    """
    if longest_side_px < _MULTIPLE_PX:
        raise ConfigError(f"detector.longest_side_px={longest_side_px}; expected {_MULTIPLE_PX} or more")
    for name, share in (("min_score", min_score), ("max_overlap", max_overlap)):
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"detector.{name}={share}; expected a number from 0 to 1")
    network = OnnxNetwork(path=Path(weights).expanduser(), engine=engine)
    kind = _kind_of(network)
    if network.fixed_size_px is not None and longest_side_px > min(network.fixed_size_px):
        raise ConfigError(
            f"detector.longest_side_px={longest_side_px}, but {weights} sees {network.fixed_size_px[0]} x "
            f"{network.fixed_size_px[1]} pixels; give {min(network.fixed_size_px)} or less"
        )
    return OnnxDetector(
        network=network,
        kind=kind,
        min_score=kind.min_score if min_score is None else min_score,
        max_overlap=kind.max_overlap if max_overlap is None else max_overlap,
        longest_side_px=longest_side_px,
        mirrored=mirrored,
    )


def _kind_of(network: OnnxNetwork) -> Kind:
    names = network.output_names
    if set(names) == {f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in YUNET_STRIDES_PX}:
        return YUNET
    if len(names) in SCRFD_STRIDES_PX:
        return SCRFD
    raise ModelError(
        f"{network.path}: its outputs are {', '.join(names[:12])}; expected a YuNet of 2023 or later (cls_8 ... "
        "kps_32), or an SCRFD with landmarks, whose name has kps in it (9 or 15 outputs)"
    )


def _turned_back(faces: Faces, *, width_px: int) -> Faces:
    """Faces of a mirror image, as they lie in the image."""
    boxes, landmarks = faces.boxes.copy(), faces.landmarks[:, _IN_MIRROR]
    boxes[:, 0] = width_px - boxes[:, 0] - boxes[:, 2]
    landmarks[:, :, 0] = width_px - 1 - landmarks[:, :, 0]
    return Faces(boxes=boxes, landmarks=landmarks, scores=faces.scores)


def _averaged(faces: Faces, others: Faces) -> Faces:
    """The faces, with the mean of their landmarks and those of the same face among the others, where it is there."""
    landmarks: list[Any] = []
    for box, points in zip(faces.boxes, faces.landmarks, strict=True):
        shared = overlaps(others.boxes, box)
        same = int(shared.argmax()) if len(shared) else -1
        is_there = same >= 0 and shared[same] >= _SAME_FACE_OVERLAP
        landmarks.append((points + others.landmarks[same]) / 2 if is_there else points)
    return Faces(boxes=faces.boxes, landmarks=np.array(landmarks), scores=faces.scores)
