"""The fast decoding of detectors' outputs, beside a slow one that takes one place at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.align.anchors import SCRFD_STRIDES_PX, decode_scrfd, decode_yunet
from facerec.core.errors import ModelError


def random_outputs(rng: np.random.Generator, num_rows: int) -> list[np.ndarray]:
    return [
        rng.random((num_rows, 1), dtype=np.float32),
        *(rng.normal(size=(num_rows, n)).astype("f4") for n in (4, 10)),
    ]


@given(rows=st.integers(1, 2), columns=st.integers(1, 2), num_anchors=st.integers(1, 2), seed=st.integers(0, 99))
@pytest.mark.parametrize("num_outputs", [9, 15])
@settings(max_examples=8)
def test_scrfd_is_decoded_as_one_anchor_at_a_time(num_outputs, rows, columns, num_anchors, seed):
    strides, rng = SCRFD_STRIDES_PX[num_outputs], np.random.default_rng(seed)
    height, width = rows * strides[-1], columns * strides[-1]
    levels = [random_outputs(rng, height // s * (width // s) * num_anchors) for s in strides]
    outputs = [level[kind] for kind in range(3) for level in levels]
    expected = []
    for stride, (score, distances, points) in zip(strides, levels, strict=True):
        row = 0
        for y in range(height // stride):
            for x in range(width // stride):
                for _ in range(num_anchors):
                    left, top, right, bottom = (float(d) * stride for d in distances[row])
                    box = [x * stride - left, y * stride - top, left + right, top + bottom]
                    marks = [
                        [x * stride + float(dx) * stride, y * stride + float(dy) * stride]
                        for dx, dy in points[row].reshape(5, 2)
                    ]
                    expected.append((float(score[row, 0]), box, marks))
                    row += 1
    for order in (range(num_outputs), rng.permutation(num_outputs)):
        # with a batch dimension, as some files have it
        found = decode_scrfd([outputs[i][None] if i % 2 else outputs[i] for i in order], size_px=(height, width))
        np.testing.assert_allclose(found.scores, [score for score, _, _ in expected])
        np.testing.assert_allclose(found.boxes, [box for _, box, _ in expected], atol=1e-9)
        np.testing.assert_allclose(found.landmarks, [marks for _, _, marks in expected], atol=1e-9)


@given(rows=st.integers(1, 2), columns=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_yunet_is_decoded_as_one_place_at_a_time(rows, columns, seed):
    rng = np.random.default_rng(seed)
    height, width = rows * 32, columns * 32
    outputs, expected = {}, []
    for stride in (8, 16, 32):
        num = height // stride * (width // stride)
        of_class, box, points = random_outputs(rng, num)
        of_object = rng.normal(0.5, 1, (num, 1)).astype("f4")  # beyond 0 and 1 too
        for name, values in {"cls": of_class, "obj": of_object, "bbox": box, "kps": points}.items():
            outputs[f"{name}_{stride}"] = values[None]
        for row in range(num):
            y, x = divmod(row, width // stride)
            dx, dy, w, h = map(float, box[row])
            w, h = math.exp(w) * stride, math.exp(h) * stride
            marks = [[(px + x) * stride, (py + y) * stride] for px, py in points[row].astype(float).reshape(5, 2)]
            score = math.sqrt(float(of_class[row, 0]) * min(max(float(of_object[row, 0]), 0), 1))
            expected.append((score, [(x + dx) * stride - w / 2, (y + dy) * stride - h / 2, w, h], marks))
    found = decode_yunet(outputs, size_px=(height, width))
    np.testing.assert_allclose(found.scores, [score for score, _, _ in expected])
    np.testing.assert_allclose(found.boxes, [box for _, box, _ in expected], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.landmarks, [marks for _, _, marks in expected], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("change", ["fewer", "no-points", "other-size", "short", "empty"])
def test_outputs_of_something_else_are_refused(change):
    rng = np.random.default_rng(0)
    levels = [random_outputs(rng, 64 // s * (64 // s) * 2) for s in (8, 16, 32)]
    outputs = [level[kind] for kind in range(3) for level in levels]
    size_px = (64, 64)
    if change == "fewer":
        outputs = outputs[:6]
    elif change == "no-points":
        outputs[6:] = outputs[3:6]
    elif change == "other-size":
        size_px = (96, 96)
    elif change == "short":
        outputs[4] = outputs[4][:-1]
    else:
        outputs = [output[:0] for output in outputs]
    with pytest.raises(ModelError, match="expected SCRFD's"):
        decode_scrfd(outputs, size_px=size_px)
