"""Pairs of which one kind is much more frequent: what is measured instead of the accuracy, and what is said."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.core.errors import DataError
from facerec.core.metric import SHARE, Metric, values_of
from facerec.data.verification_file import write_pairs
from facerec.evaluation.unbalanced import beaten_by_constant, constant_answer, unbalanced_pairs
from facerec.evaluation.verification import VerificationBenchmark, fold_accuracies


def _naive_balanced(distances: np.ndarray, is_same: np.ndarray, num_folds: int) -> list[float]:
    def balanced(part: np.ndarray, threshold: float) -> float:
        accepted, same = distances[part] < threshold, is_same[part]
        return (np.mean(accepted[same]) + np.mean(~accepted[~same])) / 2

    values = []
    for fold in np.array_split(np.arange(len(distances)), num_folds):
        others = np.setdiff1d(np.arange(len(distances)), fold)
        scores = [round(balanced(others, threshold), 12) for threshold in np.arange(0, 4, 0.01)]
        values.append(balanced(fold, np.arange(0, 4, 0.01)[int(np.argmax(scores))]))
    return values


@given(seed=st.integers(0, 10_000), num_folds=st.integers(2, 4))
@settings(max_examples=15)
def test_balanced_folds_agree_with_the_naive_loop(seed: int, num_folds: int) -> None:
    rng = np.random.default_rng(seed)
    is_same = rng.permutation(np.arange(61) % 5 == 0)
    is_same[::13], is_same[1::13] = True, False  # both kinds in every fold
    distances = np.round(np.clip(rng.normal(np.where(is_same, 1.2, 1.6), 0.4), 0, 4), 2)
    result = fold_accuracies(distances, is_same, num_folds=num_folds, balanced=True)
    np.testing.assert_allclose(result.accuracies_K, _naive_balanced(distances, is_same, num_folds), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("num_same", "num_different", "expected"),
    [(100, 200, ("different", 2 / 3)), (970, 30, ("same", 0.97)), (100, 199, None), (600, 600, None), (0, 9, None)],
)
def test_pairs_are_unbalanced_from_two_to_one(num_same: int, num_different: int, expected) -> None:
    constant = constant_answer(np.repeat([True, False], [num_same, num_different]))
    assert (constant and (constant.answer, constant.accuracy)) == expected


def _image(colour: int) -> bytes:
    return cv2.imencode(".png", np.full((8, 8, 3), colour, dtype=np.uint8))[1].tobytes()


def _noise(images: np.ndarray) -> np.ndarray:
    """Embeds each image as numbers that only its own grey decides: no person is recognised."""
    vectors = [np.random.default_rng(int(image[0, 0, 0])).normal(size=16) for image in images]
    return np.array(vectors, dtype=np.float32)


def _benchmark(folder: Path, *, num_different: int) -> VerificationBenchmark:
    """20 pairs of two different images with one person, and others."""
    is_same = [True] * 20 + [False] * num_different
    order = np.random.default_rng(0).permutation(len(is_same))
    images = [_image(number % 251) for number in range(2 * len(is_same))]
    write_pairs(folder / "val.bin", images, [is_same[i] for i in order])
    return VerificationBenchmark(path=str(folder / "val.bin"), num_folds=2)


def test_a_model_that_knows_nothing_is_marked_on_unbalanced_pairs(tmp_path: Path) -> None:
    benchmark = _benchmark(tmp_path, num_different=180)
    metrics = list(benchmark.evaluate(_noise))
    values = values_of(metrics)
    assert list(values)[5:7] == ["balanced_accuracy", "accuracy_if_always_different"]
    assert values["accuracy_if_always_different"] == 0.9 and values["accuracy"] >= 0.85
    assert abs(values["balanced_accuracy"] - 0.5) < 0.15 and abs(values["eer"] - 0.5) < 0.15
    assert [metric.name for metric in metrics if metric.is_leading] == ["accuracy"]  # as in stored runs
    line = beaten_by_constant("val", [metric.within("eval/val") for metric in metrics])
    assert line is not None and line.startswith('val: always saying "different" has an accuracy of 90.00 %, the model ')
    assert f"read balanced_accuracy {100 * values['balanced_accuracy']:.2f}" in line and " and eer " in line
    warning = benchmark.pairs_warning()
    assert warning == unbalanced_pairs("val", np.repeat([True, False], [20, 180])) and warning is not None
    assert "checkpoint.best_metric=eval/val/balanced_accuracy; auto_pairs.num_positive of pack" in warning


def test_balanced_pairs_have_no_further_metrics_and_no_mark(tmp_path: Path) -> None:
    benchmark = _benchmark(tmp_path, num_different=20)
    metrics = list(benchmark.evaluate(_noise))
    assert not [metric for metric in metrics if "balanced" in metric.name or "always" in metric.name]
    assert benchmark.pairs_warning() is None and beaten_by_constant("val", metrics) is None


@pytest.mark.parametrize(("accuracy", "is_marked"), [(0.94, True), (0.9501, False), (0.99, False)])
def test_a_model_with_less_than_half_of_the_errors_of_a_constant_answer_is_not_marked(accuracy, is_marked) -> None:
    metrics = [
        Metric(name="accuracy", value=accuracy, unit=SHARE),
        Metric(name="balanced_accuracy", value=0.9, unit=SHARE),
        Metric(name="eer", value=0.1, unit=SHARE),
        Metric(name="accuracy_if_always_different", value=0.9, unit=SHARE),
    ]
    assert (beaten_by_constant("val", metrics) is not None) == is_marked


@pytest.mark.parametrize("num_different", [20, 180])
def test_names_of_the_metrics_are_known_before_they_are_measured(num_different: int, tmp_path: Path) -> None:
    benchmark = _benchmark(tmp_path, num_different=num_different)
    known = benchmark.metric_names
    assert known == [metric.name for metric in benchmark.evaluate(_noise) if metric.higher_is_better is not None]


def test_a_rate_that_the_pairs_do_not_resolve_is_refused_with_the_key_of_pack(tmp_path: Path) -> None:
    _benchmark(tmp_path, num_different=180)
    benchmark = VerificationBenchmark(path=str(tmp_path / "val.bin"), num_folds=2, target_fars=[1e-2, 1e-3])
    with pytest.raises(DataError, match=r"FAR 0\.001; .* facerec pack draws .* auto_pairs\.num_negative=1000; ten"):
        benchmark.check()
