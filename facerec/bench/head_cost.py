"""Measures the head alone: time and peak memory of the engines, and the cost of each margin relative to none.

A step is what the trainer does with a head: forward, backward, one update of the centres by SGD with momentum and
weight decay.

Letters: B samples, C classes, D embedding dimensions.
"""

import gc
import multiprocessing
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from facerec.bench.alternation import Timing, alternate
from facerec.core.device import choose_device
from facerec.heads.combined import MarginHead
from facerec.heads.head import Head
from facerec.heads.row_optimizer import RowSGD
from facerec.training.optimizer import SGD

ENGINES = ("dense", "chunked", "fused")
"""fused: the chunked engine with the row optimizer inside its backward pass."""

LR = 0.1


@dataclass(frozen=True, kw_only=True)
class Size:
    """The input of the engines: B samples of C classes in D dimensions, on a device, with a number of CPU threads."""

    num_classes: int
    batch_size: int
    embedding_dim: int
    device: str
    num_threads: int

    def tensor_bytes(self) -> int:
        """Returns the bytes of one fp32 tensor of all centres."""
        return 4 * self.num_classes * self.embedding_dim


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The peak memory of a step, in bytes.

    Attributes:
        total: including centres, their gradient and their momentum.
        beyond: without centres and momentum, and without the centres' gradient if there is one.
    """

    total: int
    beyond: int


def time_engines(size: Size, engines: Sequence[str], *, rounds: int) -> dict[str, Timing]:
    """Times steps of ArcFace with each engine in alternation; ratios are to the first engine."""
    torch.set_num_threads(size.num_threads)
    device = choose_device(size.device)
    heads = {engine: _arcface(size, engine) for engine in engines}
    for head in heads.values():  # all share the same centres: a million of them take 2 GB
        head.centres = heads[engines[0]].centres
    steps = {engine: _step(head, size, fused=engine == "fused") for engine, head in heads.items()}
    return alternate(steps, rounds=rounds, device=device)


def time_margins(
    heads: Mapping[str, Callable[..., Head]], size: Size, *, engine: str, rounds: int
) -> dict[str, Timing]:
    """Times steps of each head with one engine in alternation; ratios are to the first head.

    Args:
        heads: makers of heads, called with num_classes, embedding_dim and engine.
    """
    torch.set_num_threads(size.num_threads)
    device = choose_device(size.device)
    made = {
        name: make(num_classes=size.num_classes, embedding_dim=size.embedding_dim, engine=engine).to(device)
        for name, make in heads.items()
    }
    return alternate(
        {name: _step(head, size, fused=False) for name, head in made.items()}, rounds=rounds, device=device
    )


def measure_peak(size: Size, engine: str) -> Peak:
    """Measures the peak of two steps in a separate process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        total = pool.submit(_peak_of_this_process, size, engine).result()
    kept = 2 if engine == "fused" else 3
    return Peak(total=total, beyond=total - kept * size.tensor_bytes())


def _peak_of_this_process(size: Size, engine: str) -> int:
    torch.set_num_threads(size.num_threads)
    device = choose_device(size.device)
    small = Size(**{**vars(size), "num_classes": min(size.num_classes, 1_000)})
    _step(_arcface(small, engine), small, fused=engine == "fused")()  # libraries allocate memory at their first use
    gc.collect()
    before = _peak_bytes(device)
    step = _step(_arcface(size, engine), size, fused=engine == "fused")
    step()
    step()
    return _peak_bytes(device) - before


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # the peak of this process; getrusage also counts that of its parent's image
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _arcface(size: Size, engine: str) -> Head:
    head = MarginHead(
        num_classes=size.num_classes,
        embedding_dim=size.embedding_dim,
        m2=0.5,
        engine="dense" if engine == "dense" else "chunked",
    )
    return head.to(choose_device(size.device))


def _step(head: Head, size: Size, *, fused: bool) -> Callable[[], None]:
    device = head.centres.weight.device
    settings = SGD(lr=LR)
    optimizer = None
    if fused:
        head.train_rows(partial(RowSGD, momentum=settings.momentum, weight_decay=settings.weight_decay), fused=True)
    else:
        optimizer = settings.build(head.named_parameters(prefix="objective.head"))
    generator = torch.Generator().manual_seed(0)
    emb_BD = torch.randn(size.batch_size, size.embedding_dim, generator=generator).to(device).requires_grad_()
    labels_B = torch.randint(size.num_classes, (size.batch_size,), generator=generator).to(device)

    def step() -> None:
        head.start_step(0, labels_of_step=labels_B, lr=LR)
        head(emb_BD, labels_B).loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        head.end_step()

    return step
