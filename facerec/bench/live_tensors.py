"""Records which tensors are alive at the same time while code runs, also for tensors without values."""

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FUSED_OPTIMIZERS = ("_fused_sgd", "_fused_adam")
"""Prefixes of the names of their operators: SGD, Adam, AdamW."""


class LiveTensors(TorchDispatchMode):
    """Records, while it is active, every memory block that an operation makes, from its creation to its end.

    Attributes:
        kind: the purpose of blocks that are made from now on.
        moment: the current part of the run.
    """

    def __init__(self, *, kind: str, moment: str) -> None:
        super().__init__()
        self.kind, self.moment = kind, moment
        self._numbers: dict[int, int] = {}  # of the live blocks, by address
        self._kinds: list[str] = []
        self._events: list[tuple[str, int, int]] = []  # moment, number, bytes added

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1  # instead of the value that it does not have
        if func.overloadpacket.__name__.startswith(FUSED_OPTIMIZERS) and isinstance(args[0][0], FakeTensor):
            return None  # torch cannot fake them; they work in place and allocate nothing
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor)
        return made

    def note(self, tensor: torch.Tensor) -> None:
        """Counts a tensor from now on; views of a counted tensor change nothing."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._numbers:
            return
        number = self._numbers[address] = len(self._kinds)
        self._kinds.append(self.kind)
        self._events.append((self.moment, number, storage.nbytes()))
        weakref.finalize(storage, self._end, address, storage.nbytes())

    def name(self, tensor: torch.Tensor, kind: str) -> None:
        """Sets the purpose of a counted tensor, from its creation on."""
        self.note(tensor)
        self._kinds[self._numbers[tensor.untyped_storage()._cdata]] = kind

    def peaks(self) -> dict[str, dict[str, int]]:
        """Returns for each moment the bytes of each kind at the moment's peak."""
        peaks: dict[str, dict[str, int]] = {}
        most: Counter[str] = Counter()
        live: Counter[str] = Counter()
        for moment, number, more in self._events:
            live[self._kinds[number]] += more
            if (total := live.total()) > most[moment]:
                most[moment], peaks[moment] = total, {kind: size for kind, size in live.items() if size}
        return peaks

    def _end(self, address: int, size: int) -> None:
        self._events.append((self.moment, self._numbers.pop(address), -size))


def num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Returns the total over all tensors."""
    return sum(tensor.nbytes for tensor in tensors)
