"""A bar for what takes a while, where somebody looks."""

from collections.abc import Iterable
from typing import Any

DELAY_S = 2.0


def progress_bar(items: Iterable[Any] | None = None, *, what: str, unit: str, total: int | None = None) -> Any:
    """A tqdm on a terminal, from the moment that the work has taken `DELAY_S`; elsewhere nothing.

    Args:
        items: that it goes through; None: call its `update` in a with block.
        what: is done.
        unit: of what is counted.
        total: how many there are, where `items` do not say.
    """
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, unit=unit, dynamic_ncols=True, delay=DELAY_S, disable=None)
