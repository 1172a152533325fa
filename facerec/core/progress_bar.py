"""Shows the progress of long work: a bar on a terminal, and a line now and then elsewhere (a log file, a cluster)."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Self

DELAY_S = 2.0
"""Work that takes less time shows nothing."""
FIRST_LINE_S, LONGEST_GAP_S = 10.0, 60.0


class Pace:
    """Decides when the next line is due: after 10 s, then with gaps that double up to the longest.

    Args:
        clock: returns seconds that never decrease.
        longest_gap_s: seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, longest_gap_s: float = LONGEST_GAP_S) -> None:
        self._clock = clock
        self._longest_gap_s = longest_gap_s
        self._gap_s = FIRST_LINE_S
        self._due_s = clock() + FIRST_LINE_S

    def is_due(self) -> bool:
        """True if a line is due; the next line is then due one gap later."""
        now = self._clock()
        if now < self._due_s:
            return False
        self._gap_s = min(2 * self._gap_s, self._longest_gap_s)
        self._due_s = now + self._gap_s
        return True


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    what: str,
    unit: str,
    total: int | None = None,
    done: int = 0,
    delay_s: float | None = None,
    shown: bool = True,
) -> Any:
    """Returns a tqdm bar if standard error is a terminal, else `ProgressLines`; both are used in the same way.

    If torchrun or facerec has started several processes, only the first shows anything.

    Args:
        items: the items of the work; None: call `update` in a with block.
        what: names the work.
        unit: names the items, in the plural.
        total: the number of items, if `items` has no length.
        done: the number of items that are done already.
        delay_s: shows nothing for work that takes less time; None: `DELAY_S`.
        shown: False if another process shows the same work.
    """
    delay_s = DELAY_S if delay_s is None else delay_s
    shown = shown and (int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0")
    if shown and sys.stderr.isatty():
        from tqdm import tqdm

        return tqdm(
            items,
            total=total,
            initial=done,
            desc=what,
            unit=f" {unit}",
            dynamic_ncols=True,
            delay=delay_s,
            leave=None,  # a bar inside another one disappears when it is done
        )
    return ProgressLines(items, what=what, unit=unit, total=total, done=done, delay_s=delay_s, shown=shown)


class ProgressLines:
    """Writes lines to standard error with count, total, rate and time left, and a last line at the end.

    Args:
        items, what, unit, total, done, delay_s, shown: see `progress_bar`.
        clock: returns seconds that never decrease.

    Attributes:
        n: the number of items that are done.
    """

    def __init__(
        self,
        items: Iterable[Any] | None = None,
        *,
        what: str,
        unit: str,
        total: int | None = None,
        done: int = 0,
        delay_s: float = DELAY_S,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.n = done
        self.total = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
        self._items = items
        self._what, self._unit = what, unit
        self._delay_s, self._shown, self._clock = delay_s, shown, clock
        self._pace = Pace(clock=clock)
        self._started_s = clock()
        self._n_before, self._before_s = done, self._started_s  # at the previous line
        self._figures = ""

    def update(self, number: int = 1) -> None:
        """Counts this many more items as done."""
        self.n += number
        if self._shown and self._pace.is_due():
            self._write(self._rate_and_time_left())

    def set_postfix_str(self, figures: str, *, refresh: bool = True) -> None:
        """Adds these figures to the end of the next lines."""
        self._figures = figures

    def close(self) -> None:
        """Writes the last line, if the work has taken long enough."""
        seconds = self._clock() - self._started_s
        if self._shown and seconds >= self._delay_s:
            self._write(f" in {duration_text(seconds)}")
        self._shown = False

    def __iter__(self) -> Iterator[Any]:
        assert self._items is not None
        with self:
            for item in self._items:
                yield item
                self.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rate_and_time_left(self) -> str:
        """Returns rate and time left, from the time since the previous line."""
        now = self._clock()
        rate = (self.n - self._n_before) / max(now - self._before_s, 1e-9)
        self._n_before, self._before_s = self.n, now
        if not rate:
            return ""
        shown_rate = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        left = f", {duration_text((self.total - self.n) / rate)} left" if self.total is not None else ""
        return f", {shown_rate} {self._unit}/s{left}"

    def _write(self, more: str) -> None:
        share = f" ({self.n / self.total:.0%})" if self.total else ""
        of_all = "" if self.total is None else f" of {self.total:,}"
        figures = self._figures and f", {self._figures}"
        print(f"{self._what}: {self.n:,}{of_all} {self._unit}{share}{more}{figures}", file=sys.stderr, flush=True)


def duration_text(seconds: float) -> str:
    """Returns hours, minutes and seconds: 0:03:20."""
    return str(timedelta(seconds=round(seconds)))
