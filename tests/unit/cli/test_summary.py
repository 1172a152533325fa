"""Tables of metrics in the terminal: any benchmark, any metric."""

from facerec.cli.summary import MAX_TABLE_WIDTH, benchmark_table
from facerec.core.metric import SHARE, Metric


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
