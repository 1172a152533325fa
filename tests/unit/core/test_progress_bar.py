"""Long work shows how far it has come: a bar on a terminal, a line now and then in a pipe, once for all processes."""

import io
from pathlib import Path

import pytest

import facerec
from facerec.core import progress_bar as module
from facerec.core.progress_bar import Pace, ProgressLines, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Pipe:
    """Standard error, which is no terminal."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def pipe(capsys) -> Pipe:
    return Pipe(capsys)


@pytest.mark.parametrize(("delay_s", "is_shown"), [(0, True), (3600, False)])
def test_a_bar_is_shown_on_a_terminal_after_a_while(delay_s, is_shown, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(module, "DELAY_S", delay_s)
    assert list(progress_bar(range(3), what="counting", unit="numbers")) == [0, 1, 2]
    with progress_bar(what="adding", unit="sums", total=5) as bar:
        bar.update(5)
    for word in ("counting: 100%", "3/3", "adding: 100%", "5/5"):
        assert (word in stream.getvalue()) is is_shown


def test_lines_come_after_10_s_then_with_growing_gaps_up_to_a_minute(pipe):
    clock = Clock()
    seconds_of_lines = []
    with ProgressLines(what="embedding", unit="images", total=6000, clock=clock) as bar:
        for second in range(1, 301):
            clock.now_s += 1
            bar.update(20)
            if pipe.getvalue().count("\n") > len(seconds_of_lines):
                seconds_of_lines.append(second)
    assert seconds_of_lines == [10, 30, 70, 130, 190, 250]
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "embedding: 200 of 6,000 images (3%), 20 images/s, 0:04:50 left"
    assert lines[5:] == [
        "embedding: 5,000 of 6,000 images (83%), 20 images/s, 0:00:50 left",
        "embedding: 6,000 of 6,000 images (100%) in 0:05:00",
    ]


def test_rate_and_time_left_are_those_since_the_last_line(pipe):
    clock = Clock()
    bar = ProgressLines(what="aligning", unit="photos", total=20_000, clock=clock)
    bar.update(10_000)  # an earlier run has done them
    for _ in range(3):
        clock.now_s += 10
        bar.update(5)
    assert pipe.getvalue().splitlines()[-1].endswith(", 0.5 photos/s, 5:32:50 left")


def test_figures_and_what_was_done_before_are_part_of_the_lines(pipe):
    clock = Clock()
    bar = ProgressLines(what="training", unit="steps", total=60, done=30, clock=clock)
    bar.set_postfix_str("loss 3.210", refresh=False)
    clock.now_s += 10
    bar.update(5)
    bar.close()
    bar.close()
    assert pipe.getvalue().splitlines() == [
        "training: 35 of 60 steps (58%), 0.5 steps/s, 0:00:50 left, loss 3.210",
        "training: 35 of 60 steps (58%) in 0:00:10, loss 3.210",
    ]


def test_short_work_leaves_no_line_in_a_pipe_and_work_without_a_total_counts(pipe):
    clock = Clock()
    with ProgressLines(what="listing", unit="files", clock=clock) as bar:
        clock.now_s += 1.9
        bar.update(7)
    assert not pipe.getvalue()
    with ProgressLines(what="listing", unit="files", clock=clock) as bar:
        clock.now_s += 12
        bar.update(24)
    assert pipe.getvalue().splitlines() == ["listing: 24 files, 2 files/s", "listing: 24 files in 0:00:12"]


def test_work_that_an_error_ends_says_how_far_it_came(pipe):
    clock = Clock()

    def items():
        yield from range(4)
        clock.now_s += 5
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(ProgressLines(items(), what="reading", unit="images", total=9, clock=clock))
    assert pipe.getvalue() == "reading: 4 of 9 images (44%) in 0:00:05\n"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_of_several_processes_only_the_first_shows_anything(stream, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, is_shown in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        with progress_bar(what="adding", unit="sums", total=5, delay_s=0) as bar:
            bar.update(5)
        assert bool(stream.getvalue()) is is_shown
    before = stream.getvalue()
    assert list(progress_bar("ab", what="adding", unit="sums", delay_s=0, shown=False)) == ["a", "b"]
    assert stream.getvalue() == before


def test_a_pace_is_due_once_for_each_gap():
    clock = Clock()
    pace = Pace(clock=clock)
    due = []
    for second in range(1, 100):
        clock.now_s += 1
        due += [second] if pace.is_due() else []
        assert not pace.is_due()
    assert due == [10, 30, 70]


def test_no_other_file_makes_bars_of_its_own():
    sources = Path(facerec.__file__).parent
    using = {
        path.relative_to(sources).as_posix() for path in sources.rglob("*.py") if "import tqdm" in path.read_text()
    }
    assert using == {"core/progress_bar.py", "core/log.py"}  # the log writes around the bar
