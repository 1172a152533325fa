"""Announces the records that will be read soon, in the order of the file, if samples are shuffled in blocks."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from facerec.core.source import Source
from facerec.data.sampling.sampler import SampleOrder, Sampler
from facerec.data.sampling.shuffle import BlockShuffle


class ReadAhead:
    """Has the samples that are mixed now, and the next ones, read into memory before they are requested.

    A batch reads its samples in random order, which needs one seek each on a spinning or a network disk. Samples that
    are mixed together are in a few blocks; in the order of the file these are long reads. A source that is shuffled as
    a whole is not read ahead.

    Args:
        source: gets `will_read(indices)`.
        sampler: gives the samples of each step.
        order: the kind of shuffling.
        own: the part of every global batch that this process reads.
    """

    def __init__(self, source: Source, sampler: Sampler, order: SampleOrder, *, own: slice) -> None:
        self.source = source
        self.sampler = sampler
        self.own = own
        self._stretch_steps = 0
        if order.shuffle == "blocks":
            num_mixed = BlockShuffle(block_size=order.block_size, blocks_mixed=order.blocks_mixed).num_mixed
            self._stretch_steps = max(1, num_mixed // sampler.global_batch_size)
        self._told_until: int | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._telling: Future[None] | None = None

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def reach(self, step: int) -> None:
        """Call it before a step's samples are requested; returns without waiting. Raises errors of earlier reads."""
        if not self._stretch_steps:
            return
        if self._told_until is None:
            self._told_until = step
        while self._told_until < step + self._stretch_steps:
            if self._telling is not None:
                self._telling.result()
            first, self._told_until = self._told_until, self._told_until + self._stretch_steps
            steps = range(first, self._told_until)
            # here, not in the thread: two threads must not use a sampler concurrently
            samples = np.concatenate([self.sampler.indices(step)[self.own] for step in steps])
            self._telling = self._pool.submit(self.source.will_read, np.unique(samples))
