"""Runs an ONNX network on the CPU: by onnxruntime where it is installed, else by OpenCV."""

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.errors import ConfigError, ModelError
from facerec.core.file_kind import FileKind, look_at

ENGINES = ("auto", "onnxruntime", "opencv")
_Run = Callable[[np.ndarray], list[np.ndarray]]


class OnnxNetwork:
    """A network with one image as its input. Threads may call it at once, and each call counts with one thread, so that
    figures do not depend on the number of either.

    Args:
        path: the `.onnx`. It is opened at once.
        engine: `auto` takes onnxruntime where it is installed, else OpenCV. They differ in the last bits.

    Raises:
        ConfigError: there is no such engine, or it is not installed.
        ModelError: the file is no ONNX network, or one that the engine does not run.
    """

    def __init__(self, *, path: Path, engine: str = "auto") -> None:
        if engine not in ENGINES:
            raise ConfigError(f"detector.engine={engine}; expected one of {', '.join(ENGINES)}")
        has_onnxruntime = importlib.util.find_spec("onnxruntime") is not None
        if engine == "onnxruntime" and not has_onnxruntime:
            raise ConfigError(
                "detector.engine=onnxruntime: it is not installed; pip install onnxruntime, or leave auto"
            )
        try:
            look, self._content = look_at(path), path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
        if (fault := look.not_itself()) is not None:
            raise ModelError(fault)
        if look.kind not in (FileKind.ONNX, FileKind.UNKNOWN):
            raise ModelError(f"{path} is {look.kind.value}, not an ONNX network")
        self.path = path
        self.engine = "onnxruntime" if has_onnxruntime and engine != "opencv" else "opencv"
        self.fixed_size_px: tuple[int, int] | None = None
        """Height and width of its input, where the file fixes them; OpenCV does not tell."""
        self.output_names: list[str] = []
        self._of_thread = threading.local()
        self._run: _Run = self._opened_by_onnxruntime() if self.engine == "onnxruntime" else self._opened_by_opencv()

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """float32 (1, 3, H, W) -> the outputs, in the order of `output_names`. Raises ModelError where it cannot."""
        return self._run(image)

    def _opened_by_onnxruntime(self) -> _Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong comes as an exception
        try:
            session = onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, without a common base
            raise self._unusable(error) from None
        (input_, *_) = session.get_inputs()
        height, width = input_.shape[2:] if len(input_.shape) == 4 else (None, None)
        if isinstance(height, int) and isinstance(width, int):
            self.fixed_size_px = (height, width)
        self.output_names = [output.name for output in session.get_outputs()]

        def run(image: np.ndarray) -> list[np.ndarray]:
            try:
                return session.run(None, {input_.name: image})
            except Exception as error:
                raise self._unusable(error) from None

        return run

    def _opened_by_opencv(self) -> _Run:
        import cv2

        self.output_names = list(self._of_this_thread().getUnconnectedOutLayersNames())

        def run(image: np.ndarray) -> list[np.ndarray]:
            network = self._of_this_thread()
            try:
                network.setInput(image)
                return [np.array(output) for output in network.forward(self.output_names)]
            except cv2.error as error:
                raise self._unusable(error) from None

        return run

    def _of_this_thread(self) -> Any:
        """OpenCV's networks keep the state of a call, so each thread has its own."""
        import cv2

        if not hasattr(self._of_thread, "network"):
            try:
                self._of_thread.network = cv2.dnn.readNetFromONNX(np.frombuffer(self._content, np.uint8))
            except cv2.error as error:
                raise self._unusable(error) from None
        return self._of_thread.network

    def _unusable(self, error: Exception) -> ModelError:
        reason = " ".join(str(getattr(error, "err", error)).split())[:300]  # OpenCV's tells its source lines too
        other = "" if self.engine == "onnxruntime" else "; onnxruntime, once installed, may run it"
        return ModelError(f"{self.path}: {self.engine} does not run it ({reason}){other}")
