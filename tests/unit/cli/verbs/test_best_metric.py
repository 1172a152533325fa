"""`checkpoint.best_metric` is compared with the benchmarks before the first step, as far as they name their metrics."""

from collections.abc import Iterator

import pytest

from facerec.cli.verbs.parts import open_benchmarks
from facerec.core.errors import ConfigError
from facerec.core.metric import Metric
from facerec.data.verification_file import write_pairs
from tests.integration.training_runs import encoded_images
from tests.noise_source import NoiseSource


class Silent:
    """A benchmark that does not name its metrics."""

    name = "gallery"

    def evaluate(self, embed) -> Iterator[Metric]:
        raise AssertionError("nothing is evaluated before the first step")


@pytest.fixture
def opened(tmp_path):
    images = [image for both in encoded_images(seed=3, num_identities=24, per_identity=2) for image in both]
    write_pairs(tmp_path / "val.bin", images, [number % 2 == 0 for number in range(24)])
    source = NoiseSource(num_classes=2, images_per_class=2, size_px=32)

    def check(best_metric, *, sets=(str(tmp_path / "val.bin"),), benchmarks=None):
        settings = {"benchmarks": benchmarks or {}, "sets": list(sets)}
        return open_benchmarks(settings, source, num_folds=2, size_px=(32, 32), best_metric=best_metric)

    return check


def test_metrics_of_the_benchmarks_are_taken(opened):
    for best_metric in (None, "eval/val/accuracy", "eval/val/eer", "eval/val/tar_at_far_1e-1"):
        assert [one.name for one in opened(best_metric)] == ["val"]


@pytest.mark.parametrize("best_metric", ["eval/lfw/accuracy", "eval/val/accurcy", "eval/val/accuracy_std", "accuracy"])
def test_a_metric_that_no_benchmark_has_is_refused(opened, best_metric):
    expected = f"best_metric={best_metric}; expected one of eval/val/accuracy, eval/val/auc, eval/val/eer, eval/val/tar"
    with pytest.raises(ConfigError, match=expected):
        opened(best_metric)


def test_a_benchmark_that_does_not_name_its_metrics_is_trusted_by_its_name(opened):
    own = {"gallery": {"_target_": f"{__name__}.Silent"}}
    assert [one.name for one in opened("eval/gallery/rank1", benchmarks=own)] == ["gallery", "val"]
    with pytest.raises(ConfigError, match=r"expected one of eval/gallery/<its metric>, eval/val/accuracy, "):
        opened("eval/galery/rank1", benchmarks=own)


def test_a_best_metric_without_a_benchmark_is_refused(opened):
    with pytest.raises(ConfigError, match=r"but there is no benchmark: give eval\.sets="):
        opened("eval/val/accuracy", sets=())
