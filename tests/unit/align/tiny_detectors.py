"""Small ONNX files with the outputs of YuNet and SCRFD: a face is where a square of 8 x 8 pixels is white.

The format is written by hand (onnx.proto of ONNX), for the tests need no package for it.
"""

from pathlib import Path

import numpy as np

SQUARE_PX = 8
# In strides of 8 pixels, from the place whose square is white: left, top, right and bottom; and the five landmarks.
BOX = (1.0, 1.0, 2.0, 3.0)
POINTS = ((-0.5, 0.0), (1.5, 0.0), (0.5, 1.0), (0.0, 2.0), (1.25, 2.0))
STRIDES = (8, 16, 32)


def write_scrfd(path: Path, *, side_px: int | None = None, num_strides: int = 3) -> Path:
    """Nine outputs, two anchors per place of which the second never is a face; its input is RGB, (x - 127.5) / 128."""
    graph = _Graph(side_px)
    for kind in range(3):
        for stride in STRIDES[:num_strides]:
            values: list[list[float]] = [[[0.0]], [list(BOX)], [list(np.ravel(POINTS))]][kind]  # type: ignore[assignment]
            values = values * 2  # both anchors
            is_sure = kind == 0
            graph.output(f"{448 + 9 * kind + stride}", stride, values, _whiteness(stride, 2, -0.9) if is_sure else None)
    return graph.write(path)


def write_yunet(path: Path, *, names: str = "cls obj bbox kps") -> Path:
    """Twelve outputs, one place each; its input is BGR, 0 to 255."""
    graph, (left, top, right, bottom) = _Graph(None), BOX
    for name in names.split():
        for stride in STRIDES:
            values = {
                "bbox": [(right - left) / 2, (bottom - top) / 2, np.log(left + right), np.log(top + bottom)],
                "kps": list(np.ravel(POINTS)),
            }.get(name, [0.0])
            graph.output(f"{name}_{stride}", stride, [values], _whiteness(stride, 1, 0.0) if len(values) == 1 else None)
    return graph.write(path)


def white_squares(height: int, width: int, *places: tuple[int, int]) -> np.ndarray:
    """A black photo with white squares at x, y, multiples of 8."""
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    for x, y in places:
        photo[y : y + SQUARE_PX, x : x + SQUARE_PX] = 255
    return photo


def landmarks_at(x: int, y: int) -> np.ndarray:
    """Those of the face whose square lies at x, y."""
    return np.array(POINTS) * SQUARE_PX + [x, y]


def box_at(x: int, y: int) -> np.ndarray:
    """Left, top, width and height of the face whose square lies at x, y."""
    left, top, right, bottom = np.array(BOX) * SQUARE_PX
    return np.array([x - left, y - top, left + right, top + bottom])


def _whiteness(stride: int, num_anchors: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases that give the first anchor of a white place a score near 0.95, all others near 0."""
    scale = 128.0 if num_anchors == 2 else 1.0
    weights, biases = np.zeros((num_anchors, 3)), np.full(num_anchors, -50.0)
    if stride == SQUARE_PX:
        # the mean m of a white place is 255, which scores sigmoid(0.06 * (255 - 205)); of a black one, 0
        weights[0], biases[0] = 0.06 * scale / 3, 0.06 * (-205 + (127.5 if num_anchors == 2 else 0.0))
    return weights, biases


class _Graph:
    def __init__(self, side_px: int | None) -> None:
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.outputs: list[bytes] = []
        self.input = _value("input", [1, 3, side_px or "height", side_px or "width"])

    def output(
        self, name: str, stride: int, values: list[list[float]], score: tuple[np.ndarray, np.ndarray] | None
    ) -> None:
        """One output: `values` for the anchors of every place, or a score of the place's mean colour."""
        num_values = len(values[0])
        weights, biases = score or (np.zeros((len(values) * num_values, 3)), np.ravel(values))
        self.tensors += [
            _tensor(f"{name}_w", weights.astype(np.float32).reshape(-1, 3, 1, 1)),
            _tensor(f"{name}_b", biases.astype(np.float32)),
            _tensor(f"{name}_shape", np.array([-1, num_values], dtype=np.int64)),
        ]
        self.nodes += [
            _node("AveragePool", ["input"], f"{name}_mean", kernel_shape=[stride, stride], strides=[stride, stride]),
            _node("Conv", [f"{name}_mean", f"{name}_w", f"{name}_b"], f"{name}_conv", kernel_shape=[1, 1]),
            _node("Transpose", [f"{name}_conv"], f"{name}_rows", perm=[0, 2, 3, 1]),
        ]
        last = f"{name}_rows"
        if score is not None:
            self.nodes.append(_node("Sigmoid", [last], f"{name}_score"))
            last = f"{name}_score"
        self.nodes.append(_node("Reshape", [last, f"{name}_shape"], name))
        self.outputs.append(_value(name, ["rows", num_values]))

    def write(self, path: Path) -> Path:
        parts = [
            *(_field(1, node) for node in self.nodes),
            _field(2, b"tiny"),
            *(_field(5, tensor) for tensor in self.tensors),
            _field(11, self.input),
            *(_field(12, output) for output in self.outputs),
        ]
        opset = _field(1, b"") + _number(2, 13)
        path.write_bytes(_number(1, 8) + _field(7, b"".join(parts)) + _field(8, opset))
        return path


def _node(kind: str, inputs: list[str], output: str, **attributes: list[int]) -> bytes:
    parts = [*(_field(1, name.encode()) for name in inputs), _field(2, output.encode()), _field(4, kind.encode())]
    for name, numbers in attributes.items():
        body = _field(1, name.encode()) + b"".join(_number(8, number) for number in numbers) + _number(20, 7)
        parts.append(_field(5, body))
    return b"".join(parts)


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}[values.dtype]
    dims = b"".join(_number(1, side) for side in values.shape)
    return dims + _number(2, kind) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, shape: list[int | str]) -> bytes:
    dims = [_number(1, side) if isinstance(side, int) else _field(2, side.encode()) for side in shape]
    tensor = _number(1, 1) + _field(2, b"".join(_field(1, dim) for dim in dims))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)
