"""What each process of a training will hold and send, before there is a machine: a step rehearsed without numbers.

Network and head are built on the meta device. They then go through the trainer's calls on tensors that have shapes but
no memory, so what is counted is what the engine, the precision and the activation checkpointing of the training make.

Letters: B samples of a micro-batch, D embedding dimensions.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from facerec.bench.live_tensors import LiveTensors, num_bytes
from facerec.core.errors import ConfigError
from facerec.heads.chunked import CHUNK_ENTRIES
from facerec.heads.head import Head
from facerec.heads.shards import shard_of
from facerec.networks.embedding_net import EmbeddingNet
from facerec.processes.group import ALONE, Processes
from facerec.training.centre_rows import CentreRows
from facerec.training.data_parallel import Compression
from facerec.training.freezing import Freezing
from facerec.training.optimizer import OptimizerSettings
from facerec.training.precision import Precision, autocast

WEIGHTS = "network: weights"
STATE = "network: optimizer state"
AVERAGE = "network: moving average"
GRADIENTS = "network: gradients"
BUCKETS = "network: gradients in DDP's buckets"
ACTIVATIONS = "network: activations"
TEMPORARIES = "temporaries"
CENTRES = "class centres"
CENTRE_STATE = "class centres: optimizer state"
DRAWN = "class centres: copy of those drawn"
CENTRE_GRADIENT = "class centres: gradient"
GATHERED = "head: gathered embeddings"
SCRATCH = "head: engine's scratch"
KINDS = (
    WEIGHTS, STATE, AVERAGE, GRADIENTS, BUCKETS, ACTIVATIONS, TEMPORARIES, CENTRES, CENTRE_STATE, DRAWN,
    CENTRE_GRADIENT, GATHERED, SCRATCH,
)  # fmt: skip

HEAD, BACKWARD, UPDATE = "head", "network's backward", "update"
MOMENTS = (HEAD, BACKWARD, UPDATE)
"""head: all of the forward pass, and the backward pass down to the embeddings."""

NETWORK_SUMS = "network's gradients: all-reduce"
CENTRE_SUMS = "centres' gradients: all-reduce"
EMBEDDINGS = "embeddings: all-gather"
EMBEDDING_GRADIENTS = "embeddings' gradients: reduce-scatter"
SAMPLES = "labels, and numbers per sample"
MESSAGES = (NETWORK_SUMS, CENTRE_SUMS, EMBEDDINGS, EMBEDDING_GRADIENTS, SAMPLES)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and by how many processes.

    Args:
        make_network: builds the network on the default device.
        make_head: builds the head for num_classes=... on the default device.
        num_classes: C.
        optimizer: see `OptimizerSettings`.
        world_size: number of processes.
        is_sharded: each has a part of the class centres; else all have all.
        global_batch_size, micro_batch_size: see `BatchLoader`.
        precision: see `TrainerSettings`.
        has_average: whether a moving average of the weights is kept.
        compression: see `TrainerSettings.compress_gradients`.
        on_gpu: chunks are larger there, and the optimizer takes all tensors of the network at once.

    Raises:
        ConfigError: the processes cannot share the global batch evenly.
    """

    make_network: Callable[[], EmbeddingNet]
    make_head: Callable[..., Head]
    num_classes: int
    optimizer: OptimizerSettings
    world_size: int = 1
    is_sharded: bool = True
    global_batch_size: int
    micro_batch_size: int
    precision: Precision = "fp32"
    has_average: bool = False
    compression: Compression = "none"
    on_gpu: bool = True

    def __post_init__(self) -> None:
        if self.micro_batch_size < 1 or self.global_batch_size % (self.micro_batch_size * self.world_size):
            raise ConfigError(
                f"data.global_batch_size={self.global_batch_size} in micro-batches of {self.micro_batch_size} "
                f"(trainer.micro_batch_size) cannot be shared evenly by {self.world_size} processes: change one of them"
            )

    @property
    def num_micro_batches(self) -> int:
        """Of each process in a step."""
        return self.global_batch_size // (self.micro_batch_size * self.world_size)

    @property
    def num_holders(self) -> int:
        """Processes that share the class centres between them."""
        return self.world_size if self.is_sharded else 1

    @property
    def num_own_classes(self) -> int:
        """Classes of the largest shard."""
        return len(shard_of(self.num_classes, Processes(world_size=self.num_holders)))

    @property
    def num_head_samples(self) -> int:
        """Samples that the head computes on: with shards, those of all processes."""
        return self.micro_batch_size * self.num_holders


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the process with the largest shard holds and sends.

    Attributes:
        held_bytes: for each of `MOMENTS`, the bytes of each of `KINDS` when they are the most together.
        sent_bytes: in a step, the bytes of each of `MESSAGES`, where every collective goes around a ring.
    """

    held_bytes: dict[str, dict[str, int]]
    sent_bytes: dict[str, int]

    @property
    def peak_moment(self) -> str:
        """The moment with the most bytes."""
        return max(self.held_bytes, key=lambda moment: sum(self.held_bytes[moment].values()))

    @property
    def peak_bytes(self) -> int:
        """The most that is held at any moment."""
        return sum(self.held_bytes[self.peak_moment].values())


def make_plan(job: Job) -> Plan:
    """The plan for a training in which all parameters move.

    Raises:
        ConfigError: the trainer would refuse the job.
    """
    return _Rehearsal(job).run()


class _Rehearsal:
    """The first process's second step: the first has made the optimizer's state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.live = LiveTensors(kind=TEMPORARIES, moment="before")
        self.sent: Counter[str] = Counter()
        self.without_numbers = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self.dtype = torch.float64 if job.precision == "fp64" else torch.float32
        self.processes = ALONE if job.world_size == 1 else _Rehearsing(world_size=job.world_size, rehearsal=self)
        with torch.device("meta"):
            self.network = job.make_network().to(self.dtype).train()
        self._materialise(self.network, WEIGHTS)
        self.head = self._make_head()
        named = [*self.network.named_parameters(), *self.head.named_parameters(prefix="objective.head")]
        self.optimizer = job.optimizer.build(named)
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.buckets: dict[torch.Tensor, torch.Tensor] = {}
        self.average: list[torch.Tensor] = []
        self.centre_state: list[nn.Module] = []
        self.on_the_way: list[torch.Tensor] = []

    def run(self) -> Plan:
        self._first_step()
        num_passes = min(2, self.job.num_micro_batches)  # from the second on, gradients are there already
        for index in range(num_passes):
            self._micro_step(is_last=index == num_passes - 1)
        self._update()
        for message in (EMBEDDINGS, EMBEDDING_GRADIENTS, SAMPLES):
            self.sent[message] = self.sent[message] * self.job.num_micro_batches // num_passes
        peaks = self.live.peaks()
        return Plan(
            held_bytes={moment: peaks[moment] for moment in MOMENTS},
            sent_bytes={message: size for message, size in self.sent.items() if size},
        )

    # What there is before the step

    def _make_head(self) -> Head:
        """As the first process has it."""
        job = self.job
        with torch.device("meta"):
            head = job.make_head(num_classes=job.num_classes).to(self.dtype).train()
        head.processes, head.is_sharded = self.processes, job.num_holders > 1
        centres = head.centres
        if head.is_sharded:
            num_own, num_sub = job.num_own_classes, centres.num_sub_centres
            centres.classes = range(num_own)
            centres.weight = nn.Parameter(centres.weight.detach()[: num_own * num_sub])
            centres.bias = None if centres.bias is None else nn.Parameter(centres.bias.detach()[:num_own])
        self._materialise(head, CENTRES)
        if job.on_gpu and head.classes_per_chunk is None:
            entries = CHUNK_ENTRIES["other"]
            head.classes_per_chunk = max(1, entries // (job.num_head_samples * centres.num_sub_centres))
        CentreRows(
            head,
            optimizer=job.optimizer,
            num_micro_batches=job.num_micro_batches,
            precision=job.precision,
            freeze=Freezing(),
        )
        if head.rows is not None:
            for buffer in head.rows.buffers():
                self.live.name(buffer, CENTRE_STATE)
        return head

    def _materialise(self, module: nn.Module, kind: str) -> None:
        """From the meta device to tensors that claim to be on the CPU; meta knows no autocast."""
        for part in module.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                empty = self._empty(parameter, kind)
                setattr(part, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
            for name, buffer in list(part.named_buffers(recurse=False)):
                setattr(part, name, self._empty(buffer, kind))

    def _empty(self, like: torch.Tensor, kind: str, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        with self.without_numbers:
            empty = torch.empty(like.shape, dtype=dtype or like.dtype)
        self.live.name(empty, kind)
        return empty

    def _first_step(self) -> None:
        groups = self.optimizer.param_groups
        for parameter in (p for group in groups if group["fused"] for p in group["params"]):
            # torch's fused kernels want numbers; beside the state, as that of rows, they make nothing
            self.centre_state.append(cast(nn.Module, self.job.optimizer.row_optimizer(parameter)))
            for buffer in self.centre_state[-1].buffers():
                self.live.name(buffer, CENTRE_STATE)
        self.optimizer.param_groups = [group for group in groups if not group["fused"]]
        for group in self.optimizer.param_groups:
            group["foreach"] = self.job.on_gpu  # as torch chooses
            for parameter in group["params"]:
                parameter.grad = self._empty(parameter, TEMPORARIES)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        of_head = set(self.head.parameters())
        for parameter, state in self.optimizer.state.items():
            for tensor in state.values():
                self.live.name(tensor, CENTRE_STATE if parameter in of_head else STATE)
        if self.job.has_average:
            self.average = [self._empty(x, AVERAGE) for x in (*self.network.parameters(), *self.network.buffers())]
        if self.job.world_size > 1:
            self.buckets = {parameter: self._empty(parameter, BUCKETS) for parameter in self.trained}

    # The step

    def _micro_step(self, *, is_last: bool) -> None:
        live, spec = self.live, self.network.input_spec
        live.moment = HEAD
        self._start_head()
        live.kind = ACTIVATIONS
        hooks = [p.register_post_accumulate_grad_hook(self._taking_gradient(is_last=is_last)) for p in self.trained]
        hooks += [p.register_post_accumulate_grad_hook(self._take_centre_gradient) for p in self._centre_leaves()]
        with self.without_numbers:
            pixels = torch.empty(self.job.micro_batch_size, spec.height_px, spec.width_px, 3, dtype=torch.uint8)
        labels_B = torch.zeros(len(pixels), dtype=torch.int64)
        live.note(pixels)
        with live:
            images = spec.normalise(pixels, dtype=self.dtype)
            with autocast(self.job.precision, torch.device("cpu")):
                emb_BD = self.network(images)
                emb_BD.register_hook(self._head_is_done)
                live.kind = SCRATCH
                loss = self.head(emb_BD, labels_B).loss
            loss.backward()
        for hook in hooks:
            hook.remove()

    def _start_head(self) -> None:
        """`Head.start_step` with as many centres as are expected to be drawn, in place of a draw."""
        head, rows = self.head, self.head.rows
        head.start(1)
        if rows is None or rows.weight_rD is not None:
            return
        self.live.kind = DRAWN
        with self.live:
            drawn = None
            if head.sample_rate < 1:
                drawn = torch.arange(_num_drawn(self.job, head.sample_rate))
                head._num_taking_part = len(drawn) * self.job.num_holders
            rows.start_step(drawn, lr=self.job.optimizer.lr)

    def _centre_leaves(self) -> list[torch.Tensor]:
        rows, centres = self.head.rows, self.head.centres
        leaves = (centres.weight, centres.bias) if rows is None else (rows.weight_rD, rows.bias)
        return [leaf for leaf in leaves if leaf is not None]

    def _take_centre_gradient(self, leaf: torch.Tensor) -> None:
        if leaf.grad is not None:  # with fused updates there is none
            self.live.name(leaf.grad, CENTRE_GRADIENT)

    def _taking_gradient(self, *, is_last: bool) -> Callable[[torch.Tensor], None]:
        """What becomes of a complete gradient: DDP moves those of a step's last micro-batch into its buckets."""

        def take(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None
            if not (is_last and self.buckets):
                self.live.name(parameter.grad, GRADIENTS)
                return
            parameter.grad = self.buckets[parameter]
            if self.job.compression != "none":
                self.on_the_way.append(self._empty(parameter, BUCKETS, dtype=torch.float16))

        return take

    def _head_is_done(self, _gradient_BD: torch.Tensor) -> None:
        self.live.moment, self.live.kind = BACKWARD, TEMPORARIES

    def _update(self) -> None:
        self.live.moment = UPDATE
        self.on_the_way.clear()
        self.sent[NETWORK_SUMS] += self.sent_in_sum(num_bytes(self.buckets.values()))
        if self.job.compression != "none":
            self.sent[NETWORK_SUMS] //= 2
        with self.live:
            own_alone = set(self.head.centres.parameters()) if self.head.is_sharded else set()
            for parameter in self.head.parameters():
                if parameter.grad is not None and parameter not in own_alone:
                    self.processes.sum_(parameter.grad)
            self.optimizer.step()
            self.head.end_step()
            self.optimizer.zero_grad(set_to_none=True)
            self.head.zero_grad(set_to_none=True)

    # What is sent

    def sent_in_sum(self, size: int) -> int:
        """Bytes that each process sends in an all-reduce of `size` bytes around a ring."""
        return 2 * size * (self.job.world_size - 1) // self.job.world_size

    def sent_in_gather(self, own: int) -> int:
        """Bytes that each sends in an all-gather of its `own` bytes; a reduce-scatter back to them sends as many."""
        return own * (self.job.world_size - 1)


@dataclass(frozen=True, kw_only=True)
class _Rehearsing(Processes):
    """Processes of which there is only the first; what it would send is noted."""

    rehearsal: _Rehearsal

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        message = CENTRE_SUMS if self.rehearsal.live.moment == UPDATE else SAMPLES
        self.rehearsal.sent[message] += self.rehearsal.sent_in_sum(tensor.nbytes)
        return tensor

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        self.rehearsal.sent[SAMPLES] += self.rehearsal.sent_in_gather(tensor.nbytes)
        return tensor.new_zeros(self.world_size * len(tensor), *tensor.shape[1:])

    def gather_with_gradient(self, tensor: torch.Tensor) -> torch.Tensor:
        return _Gather.apply(tensor, self.rehearsal)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, rehearsal: _Rehearsal) -> torch.Tensor:
        ctx.rehearsal, ctx.num_own = rehearsal, len(tensor)
        rehearsal.sent[EMBEDDINGS] += rehearsal.sent_in_gather(tensor.nbytes)
        gathered = tensor.new_empty(rehearsal.job.world_size * len(tensor), *tensor.shape[1:])
        rehearsal.live.name(gathered, GATHERED)
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        own = gradient.new_empty(ctx.num_own, *gradient.shape[1:])
        ctx.rehearsal.sent[EMBEDDING_GRADIENTS] += ctx.rehearsal.sent_in_gather(own.nbytes)
        return own, None


def _num_drawn(job: Job, rate: float) -> int:
    """Of the largest shard, the classes that are expected to take part: those drawn, and the labels of the step."""
    num_own = job.num_own_classes
    label_share = -math.expm1(job.global_batch_size * math.log1p(-1 / job.num_classes))
    return min(num_own, math.ceil(num_own * (rate + (1 - rate) * label_share)))
