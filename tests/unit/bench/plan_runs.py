"""Runs a job under the real trainer in this process, and what its memory and its collectives came to."""

import ctypes
import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from facerec.bench.plan import Job
from facerec.core.input_spec import InputSpec
from facerec.core.metric import Metric
from facerec.core.protocols import Embedder
from facerec.heads.combined import MarginHead
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.iresnet import IResNet
from facerec.networks.mobilefacenet import MobileFaceNet
from facerec.networks.neck import GDC, BNDropoutFCBN
from facerec.processes import group as group_module
from facerec.processes.group import this_process
from facerec.training import assembly as assembly_module
from facerec.training.optimizer import SGD, AdamW
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import build_trainer

SIZE_PX = 112
BACKBONES: dict[str, Any] = {
    "iresnet18": lambda: IResNet(depth=18, width_multiplier=0.25),
    "iresnet18_recomputed": lambda: IResNet(depth=18, width_multiplier=0.25, checkpoint_activations=True),
    "mobilefacenet": MobileFaceNet,
}
OPTIMIZERS: dict[str, Any] = {"sgd": SGD, "adamw": AdamW}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A job that can be sent to another process."""

    backbone: str = "iresnet18"
    num_classes: int
    embedding_dim: int = 128
    engine: str = "chunked"
    optimizer: str = "sgd"
    fused: bool = False
    sample_rate: float = 1.0
    sharding: str = "sharded"
    world_size: int = 1
    global_batch_size: int
    micro_batch_size: int
    precision: str = "fp32"

    def job(self) -> Job:
        """For the plan."""
        return Job(
            make_network=self.network,
            make_head=self.head,
            num_classes=self.num_classes,
            optimizer=self.optimizer_settings(),
            world_size=self.world_size,
            is_sharded=self.sharding == "sharded",
            global_batch_size=self.global_batch_size,
            micro_batch_size=self.micro_batch_size,
            precision=self.precision,  # type: ignore[arg-type]
            on_gpu=False,
        )

    def network(self) -> EmbeddingNet:
        neck = GDC if self.backbone == "mobilefacenet" else BNDropoutFCBN
        return join(
            backbone=BACKBONES[self.backbone](),
            neck=partial(neck, embedding_dim=self.embedding_dim),
            input_spec=InputSpec(height_px=SIZE_PX, width_px=SIZE_PX),
        )

    def head(self, *, num_classes: int) -> MarginHead:
        return MarginHead(
            num_classes=num_classes,
            embedding_dim=self.embedding_dim,
            m2=0.3,
            engine=self.engine,  # type: ignore[typeddict-item]
            sample_rate=self.sample_rate,
            sharding=self.sharding,  # type: ignore[typeddict-item]
        )

    def optimizer_settings(self) -> SGD | AdamW:
        return OPTIMIZERS[self.optimizer](lr=0.01, fused_centres=self.fused)

    def train(self, *, num_classes: int, num_steps: int, evaluator: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            build_trainer(
                Path(this_process().gather_objects(folder)[0]),
                source=NoiseSource(num_classes=num_classes, images_per_class=1, size_px=SIZE_PX),
                network=self.network(),
                head=self.head(num_classes=num_classes),
                optimizer=self.optimizer_settings(),
                global_batch_size=self.global_batch_size,
                micro_batch_size=self.micro_batch_size,
                num_steps=num_steps,
                precision=self.precision,
                evaluators=[evaluator],
                log_every_steps=100,
            ).fit()


class PeakReader:
    """An evaluator that looks at the memory of the process when the last step is done, before anything is saved."""

    name = "memory"
    peak_bytes = 0

    def evaluate(self, embed: Embedder) -> Iterator[Metric]:
        self.peak_bytes = _status("VmHWM")
        yield Metric(name="peak", value=float(self.peak_bytes))


def measured_peak(case: Case) -> int:
    """The most memory that three steps of a job took in this process, beyond what libraries and a small run left."""
    assembly_module.keep_freed_memory = lambda: None  # type: ignore[assignment]
    glibc = ctypes.CDLL(None)
    m_mmap_threshold = -3
    glibc.mallopt(m_mmap_threshold, 2**16)  # every larger tensor is given back to the system at its end
    case.train(num_classes=1_000, num_steps=2, evaluator=PeakReader())
    gc.collect()
    glibc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before, reader = _status("VmRSS"), PeakReader()
    case.train(num_classes=case.num_classes, num_steps=3, evaluator=reader)
    return reader.peak_bytes - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def measured_traffic(case: Case) -> int:
    """Bytes that this process sent in one step, by the tensors that it gave to collectives, around a ring.

    The flags and the objects that processes exchange are left out, and what they do once in a run.
    """
    sent = []
    for num_steps in (2, 3):
        with _counted() as counted:
            case.train(num_classes=case.num_classes, num_steps=num_steps, evaluator=PeakReader())
        sent.append(counted[0])
    return sent[1] - sent[0]


@contextmanager
def _counted() -> Iterator[list[int]]:
    world_size, total = dist.get_world_size(), [0]
    before = dist.all_reduce, group_module._all_gather, group_module._reduce_scatter

    def all_reduce(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if tensor.is_floating_point():
            total[0] += 2 * tensor.nbytes * (world_size - 1) // world_size
        return before[0](tensor, *arguments, **options)

    def all_gather(gathered: torch.Tensor, own: torch.Tensor, **options: Any) -> Any:
        total[0] += own.nbytes * (world_size - 1)
        return before[1](gathered, own, **options)

    def reduce_scatter(own: torch.Tensor, given: torch.Tensor, **options: Any) -> Any:
        total[0] += own.nbytes * (world_size - 1)
        return before[2](own, given, **options)

    dist.all_reduce = all_reduce
    group_module._all_gather, group_module._reduce_scatter = all_gather, reduce_scatter
    try:
        yield total
    finally:
        dist.all_reduce, group_module._all_gather, group_module._reduce_scatter = before
