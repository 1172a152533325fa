"""A CUDA device that is not there: its tensors have no values, but torch checks shapes, types and devices as on a GPU.

It changes torch for the rest of the process, so it belongs in a process of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.cuda.amp.common
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


@contextmanager
def fake_cuda(*, has_float64: bool = True) -> Iterator[None]:
    """Inside it torch finds one CUDA device. Tensors on it, and all that is computed from them, have no values.

    Args:
        has_float64: False stands for a device without that type, such as Apple's MPS: tensors of it raise there.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _stand_in_for_the_driver()
    with mode, _MadeUpValues(has_float64=has_float64):
        yield


class _MadeUpValues(TorchDispatchMode):
    """Answers what depends on values: conditions are true, masks cover everything, and numbers are 1 on the CPU, where
    optimizers count their steps, and 0 on the device, where a gradient scaler counts what is not finite."""

    def __init__(self, *, has_float64: bool) -> None:
        super().__init__()
        self.has_float64 = has_float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, operator = kwargs or {}, func.overloadpacket
        if operator is aten._local_scalar_dense and isinstance(args[0], FakeTensor):
            return True if args[0].dtype == torch.bool else int(args[0].device.type == "cpu")
        if operator is aten.nonzero:
            return args[0].new_empty(args[0].numel(), args[0].ndim, dtype=torch.int64)
        if operator is aten._unique2:
            numbers = args[0].new_empty(args[0].numel(), dtype=torch.int64)
            return args[0].flatten(), numbers, numbers.clone()
        if operator in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
            args = (args[0], _without_masks(args[1]), *args[2:])
        if operator.__name__.startswith(
            "_fused_"
        ):  # optimizers: they change tensors in place, and torch cannot fake them
            _check_one_device(args, kwargs)
            return None
        result = func(*args, **kwargs)
        if not self.has_float64 and any(_is_double_on_device(leaf) for leaf in tree_leaves(result)):
            raise TypeError(f"{operator}: float64 on a device that does not have it")
        return result


def _without_masks(indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Whole numbers in place of masks, as many as the masks have entries."""
    whole: list[torch.Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            whole += [index.new_empty(index.numel(), dtype=torch.int64) for _ in range(index.ndim)]
        else:
            whole.append(index)
    return whole


def _check_one_device(*trees: Any) -> None:
    devices = {leaf.device for leaf in tree_leaves(trees) if isinstance(leaf, torch.Tensor)}
    if len(devices) > 1:
        raise RuntimeError(f"a fused optimizer found tensors on {sorted(map(str, devices))}")


def _is_double_on_device(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 and leaf.device.type == "cuda"


class _NoQueue:
    """A stream, or an event of one, on which nothing waits."""

    def wait_stream(self, stream: "_NoQueue") -> None: ...

    def record(self, stream: "_NoQueue") -> None: ...

    def synchronize(self) -> None: ...


def _stand_in_for_the_driver() -> None:
    """Answers for it, except in torch.cuda.is_available: fake tensors on it need False there."""
    cuda: Any = torch.cuda
    cuda.amp.common.amp_definitely_not_available = lambda: False
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.set_device = lambda device: None
    cuda.get_device_name = lambda device=None: "a GPU that is not there"
    cuda.is_bf16_supported = lambda *args, **kwargs: True
    cuda.manual_seed_all = lambda seed: None
    cuda.Stream = cuda.Event = lambda *args, **kwargs: _NoQueue()
    cuda.current_stream = lambda device=None: _NoQueue()
    cuda.stream = lambda stream: nullcontext()
    tensor: Any = FakeTensor
    tensor.record_stream = lambda self, stream: None
    tensor.numpy = lambda self, **kwargs: np.zeros(self.shape, dtype=str(self.dtype).removeprefix("torch."))
