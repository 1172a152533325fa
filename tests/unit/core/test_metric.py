"""A metric prints, stores and compares itself; nobody reads its name."""

import json

import pytest

from facerec.core.errors import ConfigError, DataError
from facerec.core.metric import COSINE, SHARE, Metric, details_of, metrics_from, quality, values_of

ACCURACY = Metric(name="accuracy", value=0.9953, unit=SHARE, interval=(0.9923, 0.9983), is_leading=True)


def test_text_has_the_unit_and_the_interval():
    assert ACCURACY.text() == "99.53 ± 0.30 %"
    assert Metric(name="tar", value=0.5, unit=SHARE, interval=(0.4, 0.7)).text() == "50.00 (40.00 to 70.00) %"
    assert Metric(name="threshold", value=0.25, unit=COSINE).text() == "0.250"
    assert Metric(name="auc", value=0.99914).text() == "0.9991"


def test_unit_that_does_not_exist_is_refused():
    with pytest.raises(
        DataError, match="metric accuracy: its unit is 'percent'; expected one of share, cosine, number"
    ):
        Metric(name="accuracy", value=1.0, unit="percent")


def test_what_a_file_holds_gives_the_metrics_back():
    metrics = [ACCURACY.within("eval/lfw"), Metric(name="eval/lfw/eer", value=0.01, unit=SHARE, higher_is_better=False)]
    stored = json.loads(json.dumps([values_of(metrics), details_of(metrics)]))
    assert metrics_from(*stored) == metrics
    assert stored[0] == {"eval/lfw/accuracy": 0.9953, "eval/lfw/eer": 0.01}
    assert (metrics[0].benchmark, metrics[0].short_name) == ("lfw", "accuracy")


def test_files_of_before_without_details_are_those_of_verification():
    names = ("accuracy", "accuracy_std", "threshold_cosine", "auc", "eer", "tar_at_far_1e-3", "threshold_at_far_1e-3")
    found = metrics_from({f"eval/lfw/{name}": 0.5 for name in names})
    assert [metric.short_name for metric in found if metric.is_leading] == ["accuracy"]
    assert [metric.unit for metric in found] == [SHARE, SHARE, COSINE, "number", SHARE, SHARE, COSINE]
    assert [metric.higher_is_better for metric in found] == [True, None, None, True, False, True, None]


def of(benchmark: str, word: str, value: float, **more) -> Metric:
    return Metric(name=f"eval/{benchmark}/{word}", value=value, **more)


def test_quality_is_the_mean_of_leading_metrics_that_share_name_and_unit_else_the_first():
    lfw, agedb = of("lfw", "accuracy", 0.9, is_leading=True), of("agedb", "accuracy", 0.5, is_leading=True)
    rank = of("gallery", "rank1", 0.8, unit=SHARE, is_leading=True)
    assert quality([lfw, of("lfw", "auc", 0.1), agedb]) == pytest.approx(0.7)
    assert quality([rank, lfw, agedb]) == 0.8
    assert quality([]) is None and quality([of("lfw", "auc", 0.1)]) is None


def test_quality_grows_where_a_metric_falls():
    eer = of("lfw", "eer", 0.2, higher_is_better=False)
    assert quality([eer], best_metric="eval/lfw/eer") == -0.2


def test_metric_that_is_not_there_or_has_no_direction_is_refused():
    threshold = of("lfw", "threshold", 0.3, higher_is_better=None)
    metrics = [of("lfw", "accuracy", 0.9), threshold]
    for name in ("eval/lfw/acuracy", "eval/lfw/threshold"):
        with pytest.raises(ConfigError, match=f"best_metric={name}; expected one of eval/lfw/accuracy, or null"):
            quality(metrics, best_metric=name)
