"""Plans the memory and the traffic of a training: runs one of its steps on tensors without numbers, and counts bytes.

Network and head are built on the meta device. The trainer's `OptimizerStep` then runs on tensors that have shapes but
no memory, so every tensor is counted that the engine, the precision and the activation checkpointing of the training
allocate. Three parts of the step are replaced, because they need numbers or other processes: the processes by
`_Rehearsing`, torch's DistributedDataParallel by `_Buckets`, and fp16's gradient scaler by one that is switched off; it
works in place.

Letters: B samples of a micro-batch, D embedding dimensions.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from facerec.bench.live_tensors import LiveTensors, num_bytes
from facerec.bench.plan import (
    ACTIVATIONS,
    AVERAGE,
    BACKWARD,
    BUCKETS,
    CENTRE_GRADIENT,
    CENTRE_STATE,
    CENTRE_SUMS,
    CENTRES,
    DRAWN,
    EMBEDDING_GRADIENTS,
    EMBEDDINGS,
    GATHERED,
    GRADIENTS,
    HEAD,
    MOMENTS,
    NETWORK_SUMS,
    SAMPLES,
    SCRATCH,
    STATE,
    TEMPORARIES,
    UPDATE,
    WEIGHTS,
    Job,
    Plan,
)
from facerec.core.batch import Batch
from facerec.losses.objective import Objective
from facerec.processes.agreement import Agreement
from facerec.processes.group import ALONE, Processes
from facerec.training.centre_rows import CentreRows
from facerec.training.data_parallel import DataParallel
from facerec.training.finite_guard import FiniteGuard
from facerec.training.freezing import Freezing
from facerec.training.precision import dtype_of
from facerec.training.step import OptimizerStep
from facerec.training.train_state import TrainState


def make_plan(job: Job) -> Plan:
    """Returns the plan for a training in which no parameter is frozen.

    Raises:
        ConfigError: the trainer would refuse the job.
    """
    return _Rehearsal(job).run()


class _Rehearsal:
    """Runs the second step of the first process; the first step creates the optimizer's state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.live = LiveTensors(kind=TEMPORARIES, moment="before")
        self.sent: Counter[str] = Counter()
        self.without_numbers = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self.processes = ALONE if job.world_size == 1 else _Rehearsing(world_size=job.world_size, rehearsal=self)
        dtype = dtype_of(job.precision)
        with torch.device("meta"):
            self.network = job.make_network().to(dtype)
            self.head = job.make_head(num_classes=job.num_classes).to(dtype)
        self.head.assume(processes=self.processes, device_type="cuda" if job.on_gpu else "cpu")
        self._materialise(self.network, WEIGHTS)
        self._materialise(self.head, CENTRES)
        self.num_passes = min(2, job.num_micro_batches)  # from the second on, gradients are there already
        self.forward = _Buckets(self)
        self.step = self._make_step()
        self.average: list[torch.Tensor] = []

    def run(self) -> Plan:
        self._make_state()
        labels = torch.zeros(self.job.global_batch_size, dtype=torch.int64)
        micro_batches = self._micro_batches(labels[: self.job.micro_batch_size])
        self.live.moment, self.live.kind = HEAD, DRAWN
        with torch.random.fork_rng(devices=[]), self.live:  # a step seeds its dropout
            self.step.run(1, micro_batches, labels_of_step=labels, lr=self.job.optimizer.lr, margin_fraction=1.0)
        for message in (EMBEDDINGS, EMBEDDING_GRADIENTS, SAMPLES):
            self.sent[message] = self.sent[message] * self.job.num_micro_batches // self.num_passes
        peaks = self.live.peaks()
        return Plan(
            held_bytes={moment: peaks[moment] for moment in MOMENTS},
            sent_bytes={message: size for message, size in self.sent.items() if size},
        )

    # Before the step

    def _materialise(self, module: nn.Module, kind: str) -> None:
        """Replaces tensors on the meta device by tensors that claim to be on the CPU; meta has no autocast."""
        for part in module.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                empty = self.empty(parameter, kind)
                setattr(part, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
            for name, buffer in list(part.named_buffers(recurse=False)):
                setattr(part, name, self.empty(buffer, kind))

    def empty(self, like: torch.Tensor, kind: str, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Returns a tensor with the shape of another one, and counts it from now on."""
        with self.without_numbers:
            empty = torch.empty(like.shape, dtype=dtype or like.dtype)
        self.live.name(empty, kind)
        return empty

    def _make_step(self) -> OptimizerStep:
        job, objective, device = self.job, Objective(head=self.head), torch.device("cpu")
        CentreRows(
            self.head,
            optimizer=job.optimizer,
            num_micro_batches=job.num_micro_batches,
            precision=job.precision,
            freeze=Freezing(),
            draw=self._draw,
        )
        if self.head.rows is not None:
            for buffer in self.head.rows.buffers():
                self.live.name(buffer, CENTRE_STATE)
        named = [*self.network.named_parameters(), *objective.named_parameters(prefix="objective")]
        state = TrainState(
            network=self.network.train(),
            objective=objective.train(),
            optimizer=job.optimizer.build(named),
            scaler=torch.amp.GradScaler(device.type, enabled=False),
            processes=self.processes,
        )
        return OptimizerStep(
            state=state,
            forward=self.forward,
            freezer=Freezing().build(named, network=self.network, steps_of=Fraction),
            guard=FiniteGuard(network=self.network, objective=objective, sample_name=str),
            agreement=Agreement(ALONE),
            device=device,
            precision=job.precision,
            own_micro_batches=range(self.num_passes),
            num_micro_batches=job.num_micro_batches * job.world_size,
            finish=lambda _batch, images: images,
            seed=0,
        )

    def _make_state(self) -> None:
        """Runs the optimizer's first step, and creates the moving average and DDP's buckets."""
        optimizer = self.step.state.optimizer
        for group in optimizer.param_groups:
            if not group["fused"]:
                group["foreach"] = self.job.on_gpu  # as torch chooses
            for parameter in group["params"]:
                parameter.grad = self.empty(parameter, TEMPORARIES)
        with self.live:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        of_head = set(self.head.parameters())
        for parameter, state in optimizer.state.items():
            for tensor in state.values():
                self.live.name(tensor, CENTRE_STATE if parameter in of_head else STATE)
        if self.job.has_average:
            self.average = [self.empty(x, AVERAGE) for x in (*self.network.parameters(), *self.network.buffers())]
        if self.job.world_size > 1:
            self.forward.make_buckets()

    # The step

    def _draw(self, *, classes: range, rate: float, **_: Any) -> torch.Tensor:
        """Returns as many centres as a draw is expected to return."""
        return torch.arange(_num_drawn(self.job, rate))

    def _micro_batches(self, labels_B: torch.Tensor) -> Iterator[Batch]:
        """Yields micro-batches without numbers. The step asks for the next one after the backward pass of the last."""
        live, spec = self.live, self.network.input_spec
        for index in range(self.num_passes):
            live.moment, live.kind = HEAD, ACTIVATIONS
            hooks = [leaf.register_post_accumulate_grad_hook(self._take_centre_gradient) for leaf in self._leaves()]
            with self.without_numbers:
                pixels = torch.empty(len(labels_B), spec.height_px, spec.width_px, 3, dtype=torch.uint8)
            yield Batch(images=pixels, labels=labels_B, indices=labels_B, step=1, micro_index=index)
            del pixels
            for hook in hooks:
                hook.remove()
        live.moment = UPDATE
        self.forward.receive()

    def _leaves(self) -> list[torch.Tensor]:
        rows, centres = self.head.rows, self.head.centres
        leaves = (centres.weight, centres.bias) if rows is None else (rows.weight_rD, rows.bias)
        return [leaf for leaf in leaves if leaf is not None]

    def _take_centre_gradient(self, leaf: torch.Tensor) -> None:
        if leaf.grad is not None:  # fused updates leave none
            self.live.name(leaf.grad, CENTRE_GRADIENT)

    # Traffic

    def sent_in_sum(self, size: int) -> int:
        """Returns the bytes that each process sends in an all-reduce of `size` bytes around a ring."""
        return 2 * size * (self.job.world_size - 1) // self.job.world_size

    def sent_in_gather(self, own: int) -> int:
        """Returns the bytes that each process sends in an all-gather of its `own` bytes, or in its reduce-scatter."""
        return own * (self.job.world_size - 1)


class _Buckets(DataParallel):
    """Calls the network, and treats its gradients as DDP does, without other processes.

    DDP keeps buckets, moves the gradients of a step's last micro-batch into them, and sends them.
    """

    def __init__(self, rehearsal: _Rehearsal) -> None:
        super().__init__(rehearsal.network, processes=ALONE, deterministic=False, compression=rehearsal.job.compression)
        self.rehearsal = rehearsal
        self.buckets: dict[torch.Tensor, torch.Tensor] = {}
        self.is_last = False
        self._on_the_way: list[torch.Tensor] = []
        self._parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        for parameter in self._parameters:
            parameter.register_post_accumulate_grad_hook(self._take)

    def make_buckets(self) -> None:
        """Creates the buckets, as DDP does when it wraps the network."""
        self.buckets = {parameter: self.rehearsal.empty(parameter, BUCKETS) for parameter in self._parameters}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Calls the network. New tensors belong to the head until the gradient of the embeddings is complete."""
        emb_BD = self.network(images)
        emb_BD.register_hook(self._head_is_done)
        self.rehearsal.live.kind = SCRATCH
        return emb_BD

    def accumulating(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """Notes whether this micro-batch is the last one of the step, whose gradients go into the buckets."""
        self.is_last = is_last
        return nullcontext()

    def receive(self) -> None:
        """Counts the bytes of the sums over all processes, which are complete now."""
        self._on_the_way.clear()
        sent = self.rehearsal.sent_in_sum(num_bytes(self.buckets.values()))
        self.rehearsal.sent[NETWORK_SUMS] += sent if self.compression == "none" else sent // 2

    def _take(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        if not (self.is_last and self.buckets):
            self.rehearsal.live.name(parameter.grad, GRADIENTS)
            return
        parameter.grad = self.buckets[parameter]
        if self.compression != "none":
            self._on_the_way.append(self.rehearsal.empty(parameter, BUCKETS, dtype=torch.float16))

    def _head_is_done(self, _gradient_BD: torch.Tensor) -> None:
        self.rehearsal.live.moment, self.rehearsal.live.kind = BACKWARD, TEMPORARIES


@dataclass(frozen=True, kw_only=True)
class _Rehearsing(Processes):
    """Stands for all processes; only the first exists, and the others are assumed equal. Counts what it would send."""

    rehearsal: _Rehearsal

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim > 0:  # single numbers are not counted
            message = CENTRE_SUMS if self.rehearsal.live.moment == UPDATE else SAMPLES
            self.rehearsal.sent[message] += self.rehearsal.sent_in_sum(tensor.nbytes)
        return tensor.mul_(self.world_size)

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
    """Returns how many classes of the largest shard are expected to take part: drawn ones, and labels of the step."""
    num_own = job.num_own_classes
    label_share = -math.expm1(job.global_batch_size * math.log1p(-1 / job.num_classes))
    return min(num_own, math.ceil(num_own * (rate + (1 - rate) * label_share)))
