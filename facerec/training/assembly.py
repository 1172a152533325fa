"""Builds the optimizer step of a training from its settings, with network and objective on their device."""

from collections.abc import Sequence

import torch
from torch import nn

from facerec.core.device import keep_freed_memory
from facerec.core.errors import ConfigError
from facerec.data.loader import BatchLoader
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet
from facerec.processes.agreement import Agreement
from facerec.processes.group import Processes
from facerec.processes.own_device import own_device
from facerec.training.centre_rows import CentreRows
from facerec.training.data_parallel import DataParallel
from facerec.training.finite_guard import FiniteGuard
from facerec.training.freezing import Freezing
from facerec.training.moving_average import MovingAverage
from facerec.training.observers import Observer
from facerec.training.optimizer import OptimizerSettings, built_optimizer
from facerec.training.precision import dtype_of, gradient_scaler, make_deterministic
from facerec.training.settings import TrainerSettings
from facerec.training.step import OptimizerStep
from facerec.training.timetable import Timetable
from facerec.training.train_state import TrainState

MANY_CENTRES = 2**26
"""From this number of entries of the class centres on (256 MB), freed memory goes back to the system: if it is kept, a
gradient in a heap with gaps takes the memory of the centres once more."""


def assemble(
    *,
    network: EmbeddingNet,
    objective: Objective,
    loader: BatchLoader,
    optimizer: OptimizerSettings,
    settings: TrainerSettings,
    freeze: Freezing,
    timetable: Timetable,
    agreement: Agreement,
    observers: Sequence[Observer],
    seed: int,
) -> OptimizerStep:
    """Builds the step of a training, and moves network and objective to the device of this process.

    Args:
        agreement: the agreement of the processes that train together.
        observers: a moving average is called before them, if the settings ask for one.
        network, objective, loader, optimizer, settings, freeze, timetable, seed: see `Trainer`.

    Raises:
        ConfigError: the parts do not fit each other or the device.
    """
    processes = agreement.processes
    device = _place(network, objective, settings=settings, processes=processes)
    centre_rows = CentreRows(
        objective.head,
        optimizer=optimizer,
        num_micro_batches=len(loader.own_micro_batches),
        precision=settings.precision,
        freeze=freeze,
    )
    named = [*network.named_parameters(), *objective.named_parameters(prefix="objective")]
    freezer = freeze.build(named, network=network, steps_of=timetable.steps_of)
    state = TrainState(
        network=network.train(),
        objective=objective.train(),
        optimizer=built_optimizer(optimizer, named),
        scaler=gradient_scaler(settings.precision, device, processes),
        average=MovingAverage(network, decay=settings.ema_decay) if settings.ema_decay else None,
        frozen=freezer.parameters,
        processes=processes,
    )
    return OptimizerStep(
        state=state,
        forward=_data_parallel(network, settings=settings, processes=processes),
        freezer=freezer,
        guard=FiniteGuard(network=network, objective=objective, sample_name=loader.source.name),
        agreement=agreement,
        observers=[*observers] if state.average is None else [state.average, *observers],
        device=device,
        precision=settings.precision,
        clip_grad_norm=settings.clip_grad_norm,
        channels_last=settings.channels_last,
        sync_batch_norm=settings.sync_batch_norm,
        centres_lr_factor=centre_rows.lr_factor,
        own_micro_batches=loader.own_micro_batches,
        num_micro_batches=loader.num_micro_batches,
        finish=loader.finish,
        seed=seed,
    )


def _place(
    network: EmbeddingNet, objective: Objective, *, settings: TrainerSettings, processes: Processes
) -> torch.device:
    """Moves both to the device, in the number format and the layout of the settings, and sets up torch."""
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    if settings.deterministic:
        make_deterministic()
    device, dtype = own_device(settings.device), dtype_of(settings.precision)
    if device.type == "cpu" and sum(p.numel() for p in objective.parameters()) <= MANY_CENTRES:
        keep_freed_memory()
    if dtype == torch.float64 and device.type == "mps":
        raise ConfigError("trainer.precision=fp64 on mps, which has no float64: use fp32, or trainer.device=cpu")
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    network.to(device, dtype, memory_format=memory_format)  # type: ignore[call-overload]
    objective.to(device, dtype)
    if settings.sync_batch_norm and processes.world_size > 1:
        if device.type != "cuda":
            raise ConfigError(
                f"trainer.sync_batch_norm=true on {device.type}: torch synchronises batch normalisation on "
                "GPUs only; leave it false"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return device


def _data_parallel(network: EmbeddingNet, *, settings: TrainerSettings, processes: Processes) -> DataParallel:
    return DataParallel(
        torch.compile(network) if settings.compile else network,  # type: ignore[arg-type]
        processes=processes,
        deterministic=settings.deterministic,
        compression=settings.compress_gradients,
    )
