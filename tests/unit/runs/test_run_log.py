"""The metrics of a run: one line per figure set, and no line twice when a run resumes."""

import json
import math

import numpy as np
import pytest

from facerec.core.log import LOGGER, log_to
from facerec.runs.run_log import RunLog, read_metrics


def written(run_dir, *, first_step: int, steps) -> None:
    log = RunLog(run_dir=run_dir, tensorboard=False)
    log.start(first_step)
    for step in steps:
        log.scalars(step, {"train/loss": step / 2})
    log.close()


def steps_of(run_dir) -> list[int]:
    return [line["step"] for line in read_metrics(run_dir / "metrics.jsonl")]


def test_lines_hold_step_time_and_figures(tmp_path):
    written(tmp_path, first_step=0, steps=[1])
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert line.pop("time") > 1.7e9
    assert line == {"step": 1, "train/loss": 0.5}


def test_resuming_drops_the_lines_after_the_resumed_step(tmp_path):
    written(tmp_path, first_step=0, steps=[5, 10, 15, 17])
    written(tmp_path, first_step=10, steps=[11, 15, 20])
    assert steps_of(tmp_path) == [5, 10, 11, 15, 20]


def test_starting_anew_drops_all_lines(tmp_path):
    written(tmp_path, first_step=0, steps=[0, 5])
    written(tmp_path, first_step=0, steps=[7])
    assert steps_of(tmp_path) == [7]


def test_line_cut_off_by_a_kill_is_left_out_and_overwritten(tmp_path):
    written(tmp_path, first_step=0, steps=[5, 10])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert steps_of(tmp_path) == [5]
    written(tmp_path, first_step=10, steps=[15])
    assert steps_of(tmp_path) == [5, 15]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_become_null(value, tmp_path):
    log = RunLog(run_dir=tmp_path, tensorboard=False)
    log.start(0)
    log.scalars(3, {"train/grad_norm": value, "train/loss": 1.0})
    log.close()
    (line,) = [json.loads(text, parse_constant=pytest.fail) for text in log.metrics_path.read_text().splitlines()]
    assert line["train/grad_norm"] is None and line["train/loss"] == 1.0


def test_lines_are_on_disk_before_the_log_is_closed(tmp_path):
    log = RunLog(run_dir=tmp_path, tensorboard=False)
    log.start(0)
    log.scalars(1, {"train/loss": 2.0})
    assert steps_of(tmp_path) == [1]
    log.close()


def test_nothing_is_opened_before_the_start(tmp_path):
    RunLog(run_dir=tmp_path / "run").close()
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_scalars_histograms_and_images_and_no_step_twice(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first_step, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = RunLog(run_dir=tmp_path)
        log.start(first_step)
        for step in steps:
            log.scalars(step, {"train/loss": 10.0 * first_step + step})
        log.histogram(steps[0], "angles", np.arange(90.0))
        log.image(steps[0], "images", np.zeros((8, 9, 3), dtype=np.uint8))
        log.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"histograms": 0, "images": 0})
    shown.Reload()
    assert [(e.step, e.value) for e in shown.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 23.0), (4, 24.0)]
    assert [event.step for event in shown.Histograms("angles")] == [1, 3]
    assert (shown.Images("images")[0].height, shown.Images("images")[0].width) == (8, 9)


def test_messages_go_to_the_screen_and_to_the_run_directory_once(tmp_path, capsys):
    log_to(None)
    log_to(tmp_path / "run" / "log.txt")
    LOGGER.info("resuming from %s", "step 5")
    assert capsys.readouterr().err == "resuming from step 5\n"
    (line,) = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert line.endswith("INFO resuming from step 5")
    log_to(None)
    LOGGER.warning("not in the file")
    assert "not in the file" not in (tmp_path / "run" / "log.txt").read_text()
