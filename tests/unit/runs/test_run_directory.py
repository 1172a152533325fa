"""One owner of a run directory: what it writes it reads, also as the code before it wrote it."""

import json

import pytest

from facerec.core.errors import ConfigError, DataError
from facerec.core.metric import SHARE, Metric
from facerec.runs.checkpoints import checkpoint_name, has_only_partial, step_of
from facerec.runs.run_directory import RunDirectory, runs_below, write_evaluation

ACCURACY = Metric(name="eval/lfw/accuracy", value=0.9, unit=SHARE, is_leading=True)


def later(benchmark: str, value: float) -> Metric:
    return Metric(name=f"eval/{benchmark}/accuracy", value=value, unit=SHARE, is_leading=True)


def test_what_is_written_is_read(tmp_path):
    run = RunDirectory(tmp_path / "run")
    assert not run.is_run and run.read_result() is None and run.read_config() == {} and run.read_overrides() == []
    run.write_start(config_yaml="head:\n  m2: 0.5\n", overrides=["head.m2=0.5"], about={"data_fingerprint": "ab"})
    run.write_result(step=7, metrics=[ACCURACY])
    assert run.is_run and run.read_config() == {"head": {"m2": 0.5}} and run.read_overrides() == ["head.m2=0.5"]
    assert run.read_about() == {"format": 2, "data_fingerprint": "ab"}
    assert run.read_result() == (7, [ACCURACY])
    run.write_preempted(step=3, signal="SIGTERM")
    run.forget_the_end()
    assert run.read_result() is None and not run.preempted.exists()


def test_result_of_before_metrics_had_details_is_read(tmp_path):
    run = RunDirectory(tmp_path)
    run.result.write_text(
        '{"status": "finished", "step": 9, "metrics": {"eval/lfw/accuracy": 0.9, "eval/lfw/eer": 0.1}}'
    )
    step, metrics = run.read_result()
    assert step == 9 and [(one.value, one.is_leading) for one in metrics] == [(0.9, True), (0.1, False)]


def test_later_evaluations_count_where_they_are_of_the_model_of_the_end(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_result(step=7, metrics=[ACCURACY])
    write_evaluation(run.evaluation, step=7, metrics=[later("lfw", 0.8)], more={"weights": "w", "sets": {"a": 1}})
    write_evaluation(run.evaluation, step=7, metrics=[later("agedb", 0.7)], more={"weights": "w", "sets": {"b": 2}})
    assert {one.name: one.value for one in run.latest_metrics()} == {
        "eval/lfw/accuracy": 0.8, "eval/agedb/accuracy": 0.7,
    }  # fmt: skip
    assert json.loads(run.evaluation.read_text())["sets"] == {"a": 1, "b": 2}
    write_evaluation(run.evaluation, step=6, metrics=[later("agedb", 0.1)], more={"weights": "v", "sets": {}})
    assert run.latest_metrics() == [ACCURACY]
    assert json.loads(run.evaluation.read_text())["sets"] == {}


def test_evaluation_with_other_settings_than_the_training_does_not_enter_the_tables(tmp_path):
    def value(**later_settings):
        more = {"weights": "w", **later_settings}
        write_evaluation(run.evaluation, step=7, metrics=[later("lfw", 0.8), later("new", 0.6)], more=more)
        return {one.benchmark: one.value for one in run.latest_metrics()}

    run = RunDirectory(tmp_path)
    run.config.write_text("eval: {num_folds: 10, benchmarks: {mine: {_target_: a.B, root: x}}}")
    run.write_result(step=7, metrics=[ACCURACY])
    assert value() == value(num_folds=10) == {"lfw": 0.8, "new": 0.6}
    assert value(num_folds=2) == {"lfw": ACCURACY.value, "new": 0.6}
    assert value(settings={"lfw": {"_target_": "a.B", "root": "x"}}) == {"lfw": 0.8, "new": 0.6}
    assert value(settings={"lfw": {"_target_": "a.B", "root": "y"}}) == {"lfw": ACCURACY.value, "new": 0.6}


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is not JSON"), ("[]", "holds a list; expected a dict"), ('{"status": "finished"}', "is damaged")],
)
def test_damaged_result_is_one_error_that_names_the_file(text, says, tmp_path):
    run = RunDirectory(tmp_path)
    run.result.write_text(text)
    with pytest.raises(DataError, match=f"{run.result} {says}"):
        run.read_result()


def test_second_process_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setattr("facerec.runs.run_directory.SECONDS_TO_WAIT", 0)
    run = RunDirectory(tmp_path)
    with run.held_alone(), pytest.raises(ConfigError, match="another process trains there"), run.held_alone():
        pass
    with run.held_alone():
        pass


def test_runs_and_checkpoints_are_found_by_name(tmp_path):
    for name in ("b", "a/c"):
        RunDirectory(tmp_path / name).write_start(config_yaml="", overrides=[], about={})
    assert [run.path for run in runs_below([tmp_path, tmp_path / "b"])] == [tmp_path / "a" / "c", tmp_path / "b"]
    assert step_of(tmp_path / checkpoint_name(1200)) == 1200
    (tmp_path / "step-00000002.partial-0a1b").mkdir()
    assert has_only_partial(tmp_path)
    (tmp_path / checkpoint_name(2)).mkdir()
    assert not has_only_partial(tmp_path)
