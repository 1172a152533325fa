"""Runs work in several threads, with the results in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def num_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_own_cores() -> int:
    """Returns this process's share of the cores, if a launcher has started several processes on this machine."""
    return max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def in_threads(
    function: Callable[[Item], Made], items: Iterable[Item], *, num_threads: int, num_ahead: int | None = None
) -> Generator[Made, None, None]:
    """Works like `map`, in several threads that run ahead of the caller; results come in the order of the items.

    Args:
        function: takes one item; its error is raised in the place of its result.
        items: taken as they are needed.
        num_threads: 1 or more.
        num_ahead: the number of items that may wait for the caller; None: 4 for each thread.
    """
    num_ahead = 4 * num_threads if num_ahead is None else num_ahead
    with ThreadPoolExecutor(num_threads) as pool:
        ahead: deque[Future[Made]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > num_ahead:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
