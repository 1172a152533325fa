"""Tables of metrics in the terminal: any benchmark, any metric."""

from facerec.cli.summary import MAX_TABLE_WIDTH, against_start, benchmark_table
from facerec.core.metric import SHARE, Metric
from facerec.runs.run_log import RunLog


def test_benchmark_of_any_metrics_has_its_table():
    metrics = [
        Metric(name="eval/ijbc/tar_at_far_1e-4", value=0.9, unit=SHARE),
        Metric(name="eval/lfw/accuracy", value=0.9953, unit=SHARE, interval=(0.9923, 0.9983)),
    ]
    assert benchmark_table(metrics).splitlines() == [
        "metric           ijbc     lfw",
        "----------------------------------------",
        "tar_at_far_1e-4  90.00 %  -",
        "accuracy         -        99.53 ± 0.30 %",
    ]
    assert benchmark_table([]) == ""


def test_benchmarks_that_do_not_fit_side_by_side_follow_below():
    names = [f"a_benchmark_with_a_long_name_{number}" for number in range(5)]
    table = benchmark_table([Metric(name=f"eval/{name}/accuracy", value=0.5, unit=SHARE) for name in names])
    assert all(len(line) <= MAX_TABLE_WIDTH for line in table.splitlines())
    assert [name for name in names if table.count(name) == 1] == names
    assert table.count("accuracy") == 2


def test_end_below_or_above_the_start_is_said_with_both_figures(tmp_path):
    def accuracy(value: float) -> list[Metric]:
        return [Metric(name="eval/lfw/accuracy", value=value, unit=SHARE, is_leading=True)]

    assert against_start(tmp_path, accuracy(0.5), best_metric=None) is None  # no step 0
    log = RunLog(run_dir=tmp_path, tensorboard=False)
    log.start(0)
    log.metrics(0, accuracy(0.84), seconds=1)
    log.metrics(8, accuracy(0.81), seconds=1)
    log.close()
    line = against_start(tmp_path, accuracy(0.81), best_metric=None)
    assert line is not None and "is below where it started" in line and "accuracy 84.00 % -> 81.00 %. Try" in line
    line = against_start(tmp_path, accuracy(0.84), best_metric="eval/lfw/accuracy")
    assert line is not None and "is exactly as good as where it started" in line
    line = against_start(tmp_path, accuracy(0.90), best_metric=None)
    assert line == (
        "The model is better than where it started (step 0 -> the end): eval/lfw/accuracy 84.00 % -> 90.00 %."
    )
