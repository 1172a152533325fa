"""Bars are for people: on a terminal, after a while, and nowhere else."""

import io

import pytest

from facerec.core import progress_bar as module
from facerec.core.progress_bar import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "delay_s", "is_shown"),
    [(Terminal(), 0, True), (Terminal(), 3600, False), (io.StringIO(), 0, False)],
)
def test_a_bar_is_shown_on_a_terminal_after_a_while(stream, delay_s, is_shown, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(module, "DELAY_S", delay_s)
    assert list(progress_bar(range(3), what="counting", unit="number")) == [0, 1, 2]
    with progress_bar(what="adding", unit="sum", total=5) as bar:
        bar.update(5)
    for word in ("counting: 100%", "3/3", "adding: 100%", "5/5"):
        assert (word in stream.getvalue()) is is_shown
