"""Hands out the micro-batches of one step: every process gets the same number, even after an error."""

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
    """Yields this process's micro-batches of a step; after an error in reading, black images instead.

    So the process takes part in all collectives of the step, and then all processes raise the error together.

    Args:
        batches: the loader's batches; this step's are next.
        step: the number of the step, from 0.
        loader: the loader of this process.
        agreement: holds the error until all processes know of it.
        spec: the size of black images.

    Raises:
        DataError: a sample cannot be read. With several processes, the agreement holds this error.
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
