"""The micro-batches of one step, as the processes that train together must have them: as many in each."""

from collections.abc import Iterator

import torch
from torch.profiler import record_function

from facerec.core.batch import Batch
from facerec.core.input_spec import InputSpec
from facerec.data.loader import BatchLoader
from facerec.processes.agreement import Agreement
from facerec.training.step import DATA


def micro_batches(
    batches: Iterator[Batch], *, step: int, loader: BatchLoader, agreement: Agreement, spec: InputSpec
) -> Iterator[Batch]:
    """Yields this process's micro-batches of a step; black images from the first on that cannot be read.

    With them the process goes through the collectives of the step, as the others do, up to where all raise the error.

    Args:
        batches: of the loader, which come to those of this step next.
        step: counted from 0.
        loader: of this process.
        agreement: holds the error of what cannot be read.
        spec: the size of black images.

    Raises:
        DataError: in one process alone, a sample cannot be read.
    """
    for micro_index in loader.own_micro_batches:
        batch = None
        if agreement.error is None:
            with record_function(DATA), agreement.holding_errors():
                batch = next(batches)
        yield _black(step, micro_index, loader=loader, spec=spec) if batch is None else batch


def _black(step: int, micro_index: int, *, loader: BatchLoader, spec: InputSpec) -> Batch:
    size = loader.micro_batch_size
    own = slice(micro_index * size, (micro_index + 1) * size)
    return Batch(
        images=torch.zeros(size, *spec.size_px, 3, dtype=torch.uint8),
        labels=torch.from_numpy(loader.labels_of_step(step)[own]),
        indices=torch.zeros(size, dtype=torch.int64),
        step=step,
        micro_index=micro_index,
    )
