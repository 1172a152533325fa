"""Pairs in the contiguous folds of the verification protocol: each fold must hold both kinds of pairs."""

from pathlib import Path

import numpy as np

from facerec.core.errors import DataError
from facerec.core.typed_text import override_of, typed_command

UNKNOWN_FILE = Path("PAIRS.bin")


def fold_starts(is_same: np.ndarray, num_folds: int, *, path: Path = UNKNOWN_FILE) -> np.ndarray:
    """Returns the first pair of each contiguous fold, int64 (K,); the first folds may have one pair more.

    Args:
        is_same: bool (P,), in the order of the pairs.
        num_folds: number of folds.
        path: the file of the pairs, for the message.

    Raises:
        DataError: a fold would hold pairs of one kind only; names a fix, see `fold_trouble`.
    """
    if trouble := fold_trouble(is_same, num_folds=num_folds, path=path):
        raise DataError(trouble)
    return _starts(len(is_same), num_folds)


def fold_trouble(is_same: np.ndarray, *, num_folds: int = 10, path: Path = UNKNOWN_FILE) -> str:
    """Returns why pairs cannot be scored in contiguous folds, with a fix; "" if each fold has both kinds.

    Args:
        is_same: bool (P,), in the order of the pairs.
        num_folds: number of folds.
        path: the file of the pairs.
    """
    if _has_both_kinds_in_each(is_same, num_folds):
        return ""
    num_same = int(is_same.sum())
    num_other = len(is_same) - num_same
    what = (
        f"{len(is_same)} pairs ({num_same} of one person, {num_other} of two) in {num_folds} contiguous folds: a fold "
        "would hold one kind only, and its accuracy would be meaningless. "
    )
    fitting = next((k for k in range(num_folds - 1, 1, -1) if _has_both_kinds_in_each(is_same, k)), None)
    if fitting:
        what += f"{fitting} folds fit: set num_folds={fitting}. "
    dealt = is_same[spread_kinds(is_same)]
    fits_dealt = next((k for k in range(num_folds, fitting or 1, -1) if _has_both_kinds_in_each(dealt, k)), None)
    if fits_dealt:
        out = path.with_name(f"{path.stem}_dealt.bin")
        command = typed_command(["facerec", "pack", override_of("data.root", path), override_of("out", out)])
        folds = "" if fits_dealt == num_folds else f" of {fits_dealt} (num_folds={fits_dealt})"
        return what + f"{command} distributes the pairs so that each fold{folds} has both kinds"
    if not fitting:
        more = "two persons" if num_same > num_other else "one person"
        what += (
            f"Add pairs of {more}: facerec pack pairs=auto draws both kinds, facerec pack pairs=PAIRS.csv uses your own"
        )
    return what.removesuffix(". ")


def _starts(num_pairs: int, num_folds: int) -> np.ndarray:
    size, num_larger = divmod(num_pairs, num_folds)
    folds = np.arange(num_folds)
    return folds * size + np.minimum(folds, num_larger)


def _has_both_kinds_in_each(is_same: np.ndarray, num_folds: int) -> bool:
    if len(is_same) < 2 * num_folds:
        return False
    starts = _starts(len(is_same), num_folds)
    num_same = np.add.reduceat(is_same, starts, dtype=np.int64)
    return bool(((num_same > 0) & (num_same < np.diff(np.append(starts, len(is_same))))).all())


def spread_kinds(is_same: np.ndarray) -> np.ndarray:
    """Returns an order, int64 (P,), in which every contiguous part has both kinds in the overall proportion.

    Pairs of one kind keep their order.

    Args:
        is_same: bool (P,), the kinds.
    """
    turns = np.arange(len(is_same) + 1) * int(is_same.sum()) // len(is_same)
    is_positive = turns[1:] > turns[:-1]
    order = np.empty(len(is_same), dtype=np.int64)
    order[is_positive], order[~is_positive] = np.flatnonzero(is_same), np.flatnonzero(~is_same)
    return order


def order_for_folds(is_same: np.ndarray) -> np.ndarray | None:
    """Returns an order, int64 (P,), in which each of ten folds has both kinds; None if the order should not change.

    It should not change if it has this property already, or if no order has it.

    Args:
        is_same: bool (P,), the kinds.
    """
    order = spread_kinds(is_same)
    return None if not fold_trouble(is_same) or fold_trouble(is_same[order]) else order
