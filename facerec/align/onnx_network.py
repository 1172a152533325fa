"""Runs an ONNX network on the CPU, with onnxruntime if it is installed, else with OpenCV."""

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
    """A network with one image as its input. Threads may call it concurrently, and each call uses one thread, so that
    results do not depend on the number of either.

    Args:
        path: the `.onnx`. It is opened immediately.
        engine: `auto` uses onnxruntime if it is installed, else OpenCV. They differ in the last bits.

    Raises:
        ConfigError: the engine does not exist, or is not installed.
        ModelError: the file is not an ONNX network, or the engine does not run it.
    """

    def __init__(self, *, path: Path, engine: str = "auto") -> None:
        if engine not in ENGINES:
            raise ConfigError(f"detector.engine={engine}; expected one of {', '.join(ENGINES)}")
        has_onnxruntime = importlib.util.find_spec("onnxruntime") is not None
        if engine == "onnxruntime" and not has_onnxruntime:
            raise ConfigError(
                "detector.engine=onnxruntime: it is not installed; pip install onnxruntime, or use engine=auto"
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
        """Returns height and width of its input if the file fixes them; OpenCV does not report them."""
        self.output_names: list[str] = []
        self._of_thread = threading.local()
        self._run: _Run = self._opened_by_onnxruntime() if self.engine == "onnxruntime" else self._opened_by_opencv()

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Maps float32 (1, 3, H, W) to the outputs, in the order of `output_names`. Raises ModelError if it fails."""
        return self._run(image)

    def _opened_by_onnxruntime(self) -> _Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised as exceptions
        try:
            session = onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes of errors have no common base
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
        """Returns this thread's network, because OpenCV's networks keep the state of a call."""
        import cv2

        if not hasattr(self._of_thread, "network"):
            try:
                self._of_thread.network = cv2.dnn.readNetFromONNX(np.frombuffer(self._content, np.uint8))
            except cv2.error as error:
                raise self._unusable(error) from None
        return self._of_thread.network

    def _unusable(self, error: Exception) -> ModelError:
        reason = " ".join(str(getattr(error, "err", error)).split())[:300]  # OpenCV's text includes source lines
        other = "" if self.engine == "onnxruntime" else "; onnxruntime, if installed, may run it"
        return ModelError(f"{self.path}: {self.engine} does not run it ({reason}){other}")
