"""Performs one optimizer update: the trainer runs it in every step, and `facerec bench suite=plan` rehearses it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.profiler import record_function

from facerec.core.batch import Batch
from facerec.core.seeding import torch_seed_of
from facerec.processes.agreement import Agreement
from facerec.training.data_parallel import DataParallel
from facerec.training.finite_guard import FiniteGuard
from facerec.training.freezing import Freezer
from facerec.training.observers import Observer, StepOutcome
from facerec.training.precision import Precision, autocast, dtype_of
from facerec.training.train_state import TrainState

STEP = "facerec.step"
DATA = "facerec.data"
FORWARD = "facerec.forward"
HEAD = "facerec.head"
BACKWARD = "facerec.backward"
UPDATE = "facerec.update"
AGREEMENT = "facerec.agreement"
PARTS = (DATA, FORWARD, HEAD, BACKWARD, UPDATE, AGREEMENT)
"""The names of a step and its parts in torch's profiles. forward: the network's; head: the objective's forward;
backward: both backward passes; update: the sums of the head's gradients and the optimizer's step; agreement: the
exchange of errors and signals between the processes."""


class OptimizerStep:
    """Runs forward and backward passes of a step's micro-batches, then the optimizer.

    Args:
        state: network, objective, optimizer and scaler, on their device, and the processes that train together.
        forward: calls the network, and sums its gradients over the processes.
        freezer: decides which parameters are frozen in which step.
        guard: finds losses that are not finite.
        agreement: holds the guard's errors until all processes know of them.
        observers: are called in this order.
        device: the device of network and objective.
        precision, clip_grad_norm, channels_last, sync_batch_norm: see `TrainerSettings`.
        centres_lr_factor: see `CentreRows.lr_factor`.
        own_micro_batches: numbers of this process's micro-batches in every step.
        num_micro_batches: number of micro-batches in a step, over all processes.
        finish: augments on the device, see `BatchLoader.finish`.
        seed: seed of dropout.

    Letters: B samples of a micro-batch, D embedding dimensions.
    """

    def __init__(
        self,
        *,
        state: TrainState,
        forward: DataParallel,
        freezer: Freezer,
        guard: FiniteGuard,
        agreement: Agreement,
        observers: Sequence[Observer] = (),
        device: torch.device,
        precision: Precision,
        clip_grad_norm: float | None = None,
        channels_last: bool = True,
        sync_batch_norm: bool = False,
        centres_lr_factor: float = 1.0,
        own_micro_batches: range,
        num_micro_batches: int,
        finish: Callable[[Batch, torch.Tensor], torch.Tensor],
        seed: int,
    ) -> None:
        self.state = state
        self.forward = forward
        self.freezer = freezer
        self.guard = guard
        self.agreement = agreement
        self.observers = observers
        self.device = device
        self.precision = precision
        self.max_grad_norm = float("inf") if clip_grad_norm is None else clip_grad_norm
        self.channels_last = channels_last
        self.centres_lr_factor = centres_lr_factor
        self.own_micro_batches = own_micro_batches
        self.num_micro_batches = num_micro_batches
        self.finish = finish
        self.seed = seed
        self.batch_norms = [m for m in state.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._updates_statistics = own_micro_batches[0] if sync_batch_norm else 0

    def run(
        self,
        step: int,
        micro_batches: Iterable[Batch],
        *,
        labels_of_step: torch.Tensor,
        lr: float,
        margin_fraction: float,
    ) -> None:
        """Performs one update.

        Args:
            step: the number of the step, from 0.
            micro_batches: the micro-batches of this process, in order.
            labels_of_step: int64, the labels of the global batch, on any device.
            lr: the learning rate, before the factors of single parts.
            margin_fraction: the fraction of the head's margin that is used, 0 .. 1.

        Raises:
            TrainingError: a loss is not finite. With several processes, the agreement holds this error.
        """
        self.freezer.start_step(step)
        self.forward.start_step()
        for group in self.state.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.state.objective.start_step(
            step,
            margin_fraction=margin_fraction,
            labels_of_step=labels_of_step.to(self.device),
            lr=lr * self.centres_lr_factor,
        )
        waited_s = self._add_up_gradients(micro_batches)
        with record_function(UPDATE):
            grad_norm, is_skipped = self._update(step)
            outcome = StepOutcome(step=step, lr=lr, grad_norm=grad_norm, is_skipped=is_skipped, waited_s=waited_s)
            for observer in self.observers:
                observer.after_step(outcome)

    def check_weights(self, step: int) -> None:
        """Checks all weights after `step` steps. All processes must call it.

        Raises:
            TrainingError: one is not finite.
        """
        with self.agreement.holding_errors():
            self.guard.check_weights(step)
        self.agreement.reach()

    def _add_up_gradients(self, micro_batches: Iterable[Batch]) -> float:
        """Runs all micro-batches of this process. Returns the seconds for which it waited for them."""
        waited_s, waited_from = 0.0, time.perf_counter()
        for batch in micro_batches:
            waited_s += time.perf_counter() - waited_from
            self._micro_step(batch)
            waited_from = time.perf_counter()
        return waited_s

    def _micro_step(self, batch: Batch) -> None:
        """Runs forward and backward pass of one micro-batch: adds its share of the global batch's mean gradient."""
        torch.manual_seed(torch_seed_of("forward", self.seed, batch.step, batch.micro_index))
        arrived = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        augmented = self.finish(batch, arrived)
        images = self.state.network.input_spec.normalise(augmented, dtype=dtype_of(self.precision))
        for observer in self.observers:
            observer.before_forward(batch, images)
        if not self.channels_last:
            images = images.contiguous()
        with self.forward.accumulating(is_last=batch.micro_index == self.own_micro_batches[-1]):
            with autocast(self.precision, self.device), self._running_statistics(batch):
                with record_function(FORWARD):
                    emb_BD = self.forward(images)
                with record_function(HEAD):
                    pictures = batch.images if augmented is arrived else augmented
                    output = self.state.objective(emb_BD, labels, pictures)
            with self.agreement.holding_errors():
                self.guard.watch(batch, emb_BD, output.sample_losses_B)
            with record_function(BACKWARD):
                self.state.scaler.scale(output.loss / self.num_micro_batches).backward()
        for observer in self.observers:
            observer.after_micro_batch(batch, output)

    @contextmanager
    def _running_statistics(self, batch: Batch) -> Iterator[None]:
        """Updates BN's running statistics with micro-batch 0 of each step alone, for any number of processes."""
        for module in self.batch_norms:
            module.track_running_stats = batch.micro_index == self._updates_statistics
        try:
            yield
        finally:
            for module in self.batch_norms:
                module.track_running_stats = True

    def _update(self, step: int) -> tuple[torch.Tensor, bool]:
        """Runs the optimizer, and updates everything else that changes once per step.

        Returns the norm of the network's gradient, and True if the scaler skipped the step.
        """
        network, objective, optimizer, scaler = (
            self.state.network, self.state.objective, self.state.optimizer, self.state.scaler,
        )  # fmt: skip
        with self.agreement.holding_errors():
            self.guard.check(before_step=step)
        self._sum_objective_gradients()
        scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(network.parameters(), self.max_grad_norm)
        scaler.step(optimizer)
        grad_scale = scaler.get_scale()
        scaler.update()
        is_skipped = scaler.get_scale() < grad_scale
        objective.end_step(grad_scale=grad_scale, skipped=is_skipped)
        optimizer.zero_grad(set_to_none=True)
        return grad_norm, is_skipped

    def _sum_objective_gradients(self) -> None:
        """Sums the gradients over the processes, but for those of sharded class centres, which are sums already."""
        processes, objective = self.state.processes, self.state.objective
        if processes.world_size == 1:
            return
        head = objective.head
        own_alone = set(head.centres.parameters()) if head is not None and head.is_sharded else set()
        for parameter in objective.parameters():
            if parameter.grad is not None and parameter not in own_alone:
                processes.sum_(parameter.grad)
