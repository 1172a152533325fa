"""Detectors from ONNX files: where the faces lie in the photo, and which files are refused."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.align.detectors import OnnxDetector, open_detector
from facerec.align.faces import Faces, ranked_faces
from facerec.align.photo_reader import decode_rgb, read_bytes
from facerec.align.photo_table import read_photo_table
from facerec.core.errors import ConfigError, ModelError
from tests.unit.align.tiny_detectors import (
    SQUARE_PX,
    box_at,
    landmarks_at,
    white_squares,
    write_scrfd,
    write_yunet,
)

HAS_ONNXRUNTIME = importlib.util.find_spec("onnxruntime") is not None
needs_onnxruntime = pytest.mark.skipif(not HAS_ONNXRUNTIME, reason="onnxruntime is not installed")
ENGINES = ["opencv", pytest.param("onnxruntime", marks=needs_onnxruntime)]
KINDS = {"scrfd": write_scrfd, "yunet": write_yunet}


@pytest.fixture(params=KINDS)
def weights(request, tmp_path) -> str:
    return str(KINDS[request.param](tmp_path / "face.onnx"))


def by_place(faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    order = faces.boxes[:, 0].argsort()
    return faces.boxes[order], faces.landmarks[order]


@pytest.mark.parametrize("engine", ENGINES)
def test_faces_lie_where_the_photo_has_them(engine, weights):
    detector = open_detector(weights=weights, longest_side_px=160, engine=engine)
    first, second = detector([white_squares(90, 160, (32, 24), (112, 48)), white_squares(160, 40)])
    boxes, landmarks = by_place(first)
    np.testing.assert_allclose(boxes, [box_at(32, 24), box_at(112, 48)], atol=1e-3)
    np.testing.assert_allclose(landmarks, [landmarks_at(32, 24), landmarks_at(112, 48)], atol=1e-3)
    assert ((first.scores > 0.9) & (first.scores < 1)).all()
    assert second.boxes.shape == (0, 4) and second.landmarks.shape == (0, 5, 2) and len(second) == 0


@pytest.mark.parametrize(
    ("size_px", "place", "scale"),
    [
        ((24, 40), (8, 4), 2.0),  # enlarged to half the side, not to all of it
        ((45, 80), (16, 16), 1.0),
        ((360, 640), (128, 96), 0.25),
        ((300, 400), (80, 120), 0.4),
    ],
)
def test_faces_of_photos_of_other_sizes_are_scaled_back(size_px, place, scale, weights):
    photo = np.zeros((*size_px, 3), dtype=np.uint8)
    x, y = place
    side = round(SQUARE_PX / scale)
    photo[y : y + side, x : x + side] = 255
    faces = open_detector(weights=weights, longest_side_px=160)([photo])[0]
    assert len(faces) == 1
    seen = round(x * scale), round(y * scale)
    np.testing.assert_allclose(faces.boxes[0], box_at(*seen) / scale, atol=1e-3)
    # the centre of a pixel is a whole number, before and after
    np.testing.assert_allclose(faces.landmarks[0], (landmarks_at(*seen) + 0.5) / scale - 0.5, atol=1e-3)


def test_views_larger_than_a_tile_are_seen_in_tiles(tmp_path, monkeypatch):
    places = [(8, 16), (312, 192), (160, 96), (240, 160)]
    monkeypatch.setattr("facerec.align.detectors._TILE_PX", 128)
    monkeypatch.setattr("facerec.align.detectors._TILE_OVERLAP_PX", 32)
    detector = open_detector(weights=str(write_yunet(tmp_path / "face.onnx")), longest_side_px=352)
    canvases = []
    run = detector.network._run
    detector.network._run = lambda image: canvases.append(image.shape) or run(image)
    boxes, landmarks = by_place(detector([white_squares(224, 352, *places)])[0])
    assert set(canvases) == {(1, 3, 128, 128)} and len(canvases) == 8
    # Tiles begin anywhere, and this network has faces where a whole place of its grid is white: to 8 pixels.
    np.testing.assert_allclose(boxes, [box_at(*place) for place in sorted(places)], atol=8)
    np.testing.assert_allclose(landmarks, [landmarks_at(*place) for place in sorted(places)], atol=8)


def test_of_faces_that_overlap_the_surest_stays(weights):
    photo = white_squares(96, 160, (32, 24), (40, 24))
    photo[24:32, 40:48] = 245  # less sure
    for max_overlap, expected in ((0.3, 1), (0.9, 2)):
        detector = open_detector(weights=weights, longest_side_px=160, max_overlap=max_overlap)
        faces = detector([photo])[0]
        assert len(faces) == expected
        np.testing.assert_allclose(faces.landmarks[0], landmarks_at(32, 24), atol=1e-3)
    assert len(open_detector(weights=weights, longest_side_px=160, min_score=0.97)([photo])[0]) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_faces_depend_neither_on_threads_nor_on_the_batch(engine, weights):
    rng = np.random.default_rng(0)
    photos = [white_squares(96 + 8 * (i % 3), 160, *(8 * rng.integers(2, (18, 8), (3, 2)))) for i in range(24)]
    detector = open_detector(weights=weights, longest_side_px=160, engine=engine)
    alone = [detector([photo])[0] for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(lambda photo: detector([photo])[0], photos))
    for together in (detector(photos), shared):
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.landmarks, other.landmarks)
            np.testing.assert_array_equal(one.scores, other.scores)


@needs_onnxruntime
def test_file_that_fixes_its_size_is_seen_in_that_size(tmp_path):
    weights = str(write_scrfd(tmp_path / "fixed.onnx", side_px=192))
    faces = open_detector(weights=weights, longest_side_px=160)([white_squares(96, 160, (32, 24))])[0]
    np.testing.assert_allclose(faces.landmarks, [landmarks_at(32, 24)], atol=1e-3)
    with pytest.raises(ConfigError, match=r"longest_side_px=640, but .*fixed\.onnx takes 192 x 192 pixels; give 192"):
        open_detector(weights=weights)


@pytest.mark.parametrize("engine", ENGINES)
def test_files_of_something_else_are_refused(engine, tmp_path):
    no_points = write_scrfd(tmp_path / "scrfd_10g.onnx", num_strides=2)
    older = write_yunet(tmp_path / "yunet_2022.onnx", names="loc conf iou kps")
    (tmp_path / "text.onnx").write_text("no network")
    for path, message in [
        (no_points, "its outputs are .*; expected a YuNet of 2023 or later"),
        (older, "its outputs are conf_16, conf_32, conf_8, iou_16"),
        (tmp_path / "text.onnx", "text.onnx is a text file, not an ONNX network"),
        (tmp_path / "nowhere.onnx", "nowhere.onnx: cannot be read"),
    ]:
        with pytest.raises(ModelError, match=message):
            open_detector(weights=str(path), engine=engine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"longest_side_px": 31}, "longest_side_px=31; expected 32 or more"),
        ({"min_score": 1.5}, r"min_score=1\.5; expected a number from 0 to 1"),
        ({"max_overlap": -0.1}, r"max_overlap=-0\.1; expected a number from 0 to 1"),
        ({"sure_score": 2}, "sure_score=2; expected a number from 0 to 1"),
        ({"further_sides_px": [2560, 1280]}, r"further_sides_px=\[2560, 1280\]; expected increasing sides in pixels"),
        ({"further_sides_px": [16]}, r"further_sides_px=\[16\]; expected increasing sides"),
        ({"engine": "tensorrt"}, "engine=tensorrt; expected one of auto, onnxruntime, opencv"),
    ],
)
def test_values_that_cannot_be_are_refused(arguments, message, weights):
    with pytest.raises(ConfigError, match=message):
        open_detector(weights=weights, **arguments)


def test_engine_that_is_not_installed_is_refused(weights, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert open_detector(weights=weights).network.engine == "opencv"
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        open_detector(weights=weights, engine="onnxruntime")


def test_yunet_finds_what_opencvs_own_class_finds(real_data):
    path = str(real_data / "face_detection_yunet.onnx")
    table = read_photo_table(real_data / "lfw_photos" / "landmarks.csv")
    ours = open_detector(weights=path, longest_side_px=250, sure_score=0.0, engine="opencv")
    theirs = cv2.FaceDetectorYN.create(path, "", (250, 250), ours.min_score, ours.max_overlap)
    for photo in table.paths[0], table.paths[33], table.paths[77], table.paths[151]:
        pixels = decode_rgb(read_bytes(real_data / "lfw_photos" / photo), where=photo)
        faces = ours([pixels])[0]
        rows = theirs.detect(np.ascontiguousarray(pixels[:, :, ::-1]))[1]
        rows = rows[(-rows[:, 14]).argsort()]
        np.testing.assert_allclose(faces.boxes, rows[:, :4], atol=1e-3)
        np.testing.assert_allclose(faces.landmarks.reshape(-1, 10), rows[:, 4:14], atol=1e-3)
        np.testing.assert_allclose(faces.scores, rows[:, 14], atol=1e-5)


def real_photos(folder: Path, *, every: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Photos and their landmarks."""
    table = read_photo_table(folder / "lfw_photos" / "landmarks.csv")
    assert table.landmarks is not None
    return [
        (decode_rgb(read_bytes(folder / "lfw_photos" / table.paths[i]), where=""), table.landmarks[i])
        for i in range(0, len(table.paths), every)
    ]


def rms_px(detector: OnnxDetector, photo: np.ndarray, landmarks: np.ndarray) -> float:
    (faces,) = detector([photo])
    chosen = ranked_faces(faces, rule="central", photo_size_px=photo.shape[:2])[0]
    assert chosen is not None
    return float(np.sqrt(np.square(detector.nearer_landmarks(photo, faces, chosen) - landmarks).mean()))


def test_yunet_puts_real_landmarks_within_4_px_rms(real_data):
    # Every twelfth of the 240 photos; of all, 0.979 are within 4 px and the median is 2.18
    detector = open_detector(weights=str(real_data / "face_detection_yunet.onnx"))
    found = [rms_px(detector, *pair) for pair in real_photos(real_data, every=12)]
    assert np.mean(np.array(found) < 4) >= 0.95 and np.median(found) < 2.6, sorted(found)[-5:]
    detector.refine = False
    assert np.median([rms_px(detector, *pair) for pair in real_photos(real_data, every=24)]) > 2.7


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_real_photos_that_lie_turned_are_found_so(turn, real_data):
    # Every sixteenth of the 240 photos; of all, each is found in each turn, and none that is upright is taken as turned
    detector = open_detector(weights=str(real_data / "face_detection_yunet.onnx"))
    for photo, landmarks in real_photos(real_data, every=16):
        assert detector([photo])[0].turned_deg == 0
        turned = np.ascontiguousarray(np.rot90(photo, -turn))  # clockwise
        side, points = photo.shape[0], landmarks
        for _ in range(turn):
            points = np.stack([side - 1 - points[:, 1], points[:, 0]], axis=1)
        assert detector([turned])[0].turned_deg == 90 * turn
        assert rms_px(detector, turned, points) < 6


def test_small_real_face_in_a_large_photo_is_found(real_data):
    detector = open_detector(weights=str(real_data / "face_detection_yunet.onnx"))
    (face, landmarks), *_ = real_photos(real_data, every=240)
    photo = np.full((4000, 6000, 3), 90, dtype=np.uint8)
    photo[3010 : 3010 + 250, 4700 : 4700 + 250] = face  # the face itself is about 100 pixels high
    (faces,) = detector([photo])
    assert len(faces) == 1 and faces.turned_deg == 0
    assert np.sqrt(np.square(detector.nearer_landmarks(photo, faces, 0) - landmarks - [4700, 3010]).mean()) < 4
    detector = open_detector(weights=str(real_data / "face_detection_yunet.onnx"), further_sides_px=[])
    assert len(detector([photo])[0]) == 0
