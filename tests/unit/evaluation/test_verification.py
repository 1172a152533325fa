"""The ten-fold protocol against a loop that follows its description word by word."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.core.errors import ConfigError, DataError, ModelError
from facerec.core.metric import values_of
from facerec.data.verification_file import write_pairs
from facerec.evaluation.roc import Roc
from facerec.evaluation.verification import VerificationBenchmark, fold_accuracies, verification_metrics


def _naive(distances: np.ndarray, is_same: np.ndarray, num_folds: int) -> tuple[list[float], list[float]]:
    accuracies, chosen = [], []
    for fold in np.array_split(np.arange(len(distances)), num_folds):
        others = np.setdiff1d(np.arange(len(distances)), fold)
        best, best_accuracy = 0.0, -1.0
        for threshold in np.arange(0, 4, 0.01):
            accuracy = np.mean((distances[others] < threshold) == is_same[others])
            if accuracy > best_accuracy:
                best, best_accuracy = threshold, accuracy
        chosen.append(best)
        accuracies.append(np.mean((distances[fold] < best) == is_same[fold]))
    return accuracies, chosen


@given(seed=st.integers(0, 10_000), num_folds=st.integers(2, 5), num_pairs=st.integers(40, 63))
@settings(max_examples=25)
def test_folds_agree_with_the_naive_loop(seed: int, num_folds: int, num_pairs: int) -> None:
    rng = np.random.default_rng(seed)
    is_same = rng.permutation(np.arange(num_pairs) % 2 == 0)
    is_same[::8], is_same[1::8] = True, False  # both kinds in every fold: the smallest holds 8 pairs
    # Rounded to hundredths: many distances lie on a threshold, where strict and not strict part.
    distances = np.round(np.clip(rng.normal(np.where(is_same, 1.2, 1.6), 0.4), 0, 4), 2)
    accuracies, thresholds = _naive(distances, is_same, num_folds)
    result = fold_accuracies(distances, is_same, num_folds=num_folds)
    np.testing.assert_allclose(result.accuracies_K, accuracies, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(result.thresholds_K, thresholds)
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert result.accuracy_std == pytest.approx(np.std(accuracies, ddof=0))
    assert result.threshold_cosine == pytest.approx(1 - np.mean(thresholds) / 2)


def test_threshold_is_strict_and_the_lowest_of_equals() -> None:
    distances, is_same = np.array([0.5, 2.0] * 4), np.array([True, False] * 4)
    result = fold_accuracies(distances, is_same, num_folds=2)
    assert result.accuracy == 1.0
    # 0.50 does not accept a distance of 0.5; 0.51 is the first threshold that does.
    np.testing.assert_allclose(result.thresholds_K, 0.51)
    assert result.threshold_cosine == pytest.approx(0.745)


@pytest.mark.parametrize(
    ("is_same", "num_folds", "message"),
    [
        (
            [True] * 60 + [False] * 60,
            10,
            r"120 pairs \(60 of one person, 60 of two\) in 10 .*facerec pack .* so that each fold has both kinds",
        ),
        ([True] * 60 + [False] * 6, 10, r"so that each fold of 6 \(num_folds=6\) has both kinds"),
        ([True, True, False, False] * 3, 6, "4 folds fit: set num_folds=4"),
        ([True, False, True], 10, "Add pairs of two persons"),
        ([True] * 10, 10, "Add pairs of two persons: facerec pack pairs=auto"),
        ([False] * 10, 10, "Add pairs of one person"),
    ],
)
def test_fold_of_one_kind_is_refused_with_the_number_that_fits(
    is_same: list[bool], num_folds: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fold_accuracies(np.zeros(len(is_same)), np.array(is_same), num_folds=num_folds)


def _colour(images: np.ndarray) -> np.ndarray:
    """Embeds an image as its mean colour, less grey."""
    return images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32) - 128


def _left_column(images: np.ndarray) -> np.ndarray:
    return images[:, :, 0].mean(axis=1).astype(np.float32)


def _flat(colour: tuple[int, int, int], size: tuple[int, int] = (112, 112)) -> bytes:
    return cv2.imencode(".png", np.full((*size, 3), colour[::-1], dtype=np.uint8))[1].tobytes()


RED, PINK, BLUE = (255, 100, 100), (255, 110, 105), (100, 100, 255)


def _write_colour_pairs(path: Path, num: int = 20) -> None:
    pairs = [(RED, PINK, True), (RED, BLUE, False)] * (num // 2)
    write_pairs(path, [_flat(colour) for pair in pairs for colour in pair[:2]], [same for *_, same in pairs])


def test_benchmark_yields_the_figures_leading_one_first(tmp_path: Path) -> None:
    _write_colour_pairs(tmp_path / "colours.bin")
    benchmark = VerificationBenchmark(path=str(tmp_path / "colours.bin"))
    assert benchmark.name == "colours"
    figures = values_of(benchmark.evaluate(_colour))
    assert list(figures)[:5] == ["accuracy", "accuracy_std", "threshold_cosine", "auc", "eer"]
    assert list(figures)[5:] == ["tar_at_far_1e-1", "threshold_at_far_1e-1"]  # 10 negatives resolve no less
    assert (figures["accuracy"], figures["accuracy_std"], figures["auc"], figures["eer"]) == (1, 0, 1, 0)
    red, pink, blue = (np.array(colour) - 128.0 for colour in (RED, PINK, BLUE))
    distance = 2 - 2 * red @ pink / np.linalg.norm(red) / np.linalg.norm(pink)
    cosine = 1 - (np.floor(distance * 100) + 1) / 200
    assert figures["threshold_cosine"] == pytest.approx(cosine, abs=1e-12)
    # One false accept in ten is allowed, and all ten impostor pairs tie: none is accepted but the pairs of one person.
    assert figures["tar_at_far_1e-1"] == 1.0
    assert figures["threshold_at_far_1e-1"] == pytest.approx(1 - distance / 2)
    assert red @ blue / np.linalg.norm(red) / np.linalg.norm(blue) < 0


@pytest.mark.parametrize("as_arrays", [False, True])
def test_each_distinct_image_is_embedded_once_however_many_pairs_it_is_in(as_arrays: bool, tmp_path: Path) -> None:
    """131 images in 8,268 pairs, as a set with many negatives has them."""
    colours = np.random.default_rng(0).integers(0, 256, (131, 3))
    pairs = [(i, j) for i in range(131) for j in range(i + 1, 131)][:8268]
    is_same = [(i + j) % 3 == 0 for i, j in pairs]
    if as_arrays:
        images: list = [np.full((8, 8, 3), colours[i], dtype=np.uint8) for pair in pairs for i in pair]
        (tmp_path / "many.bin").write_bytes(pickle.dumps((images, is_same)))
    else:
        encoded = [_flat(tuple(map(int, colour)), (8, 8)) for colour in colours]
        write_pairs(tmp_path / "many.bin", [encoded[i] for pair in pairs for i in pair], is_same)
    num_embedded = 0

    def embed(images: np.ndarray) -> np.ndarray:
        nonlocal num_embedded
        num_embedded += len(images)
        return _colour(images)

    figures = values_of(VerificationBenchmark(path=str(tmp_path / "many.bin")).evaluate(embed))
    assert num_embedded == 2 * 131  # each and its mirror image
    unit = (colours - 128.0) / np.linalg.norm(colours - 128.0, axis=1, keepdims=True)
    left, right = np.array(pairs).T
    roc = Roc((unit[left] * unit[right]).sum(axis=1), np.array(is_same))
    assert figures["auc"] == pytest.approx(roc.auc, abs=1e-9)


def test_embeddings_of_image_and_mirror_image_are_summed(tmp_path: Path) -> None:
    # The left columns alone differ in a and b, which mirror each other; their sums with the mirror image are equal.
    half = np.zeros((112, 112, 3), dtype=np.uint8)
    half[:, :56] = (250, 100, 30)
    a, b = (cv2.imencode(".png", image)[1].tobytes() for image in (half, half[:, ::-1]))
    c = _flat((0, 200, 0))
    write_pairs(tmp_path / "mirrors.bin", [a, b, a, c] * 4, [True, False] * 4)
    figures = values_of(VerificationBenchmark(path=str(tmp_path / "mirrors.bin"), num_folds=2).evaluate(_left_column))
    assert figures["threshold_cosine"] == pytest.approx(1 - 0.01 / 2)  # the lowest threshold above distance 0
    assert figures["accuracy"] == 1.0


def test_explicit_target_fars_are_measured_or_refused(tmp_path: Path) -> None:
    _write_colour_pairs(tmp_path / "colours.bin")
    path = str(tmp_path / "colours.bin")
    figures = values_of(VerificationBenchmark(path=path, target_fars=[0.5, 0.25]).evaluate(_colour))
    assert list(figures)[5::2] == ["tar_at_far_5e-1", "tar_at_far_2.5e-1"]
    with pytest.raises(DataError, match=r"colours\.bin: 10 pairs of two persons cannot measure FAR 0\.001; .* 0\.1\."):
        list(VerificationBenchmark(path=path, target_fars=[0.001]).evaluate(_colour))
    with pytest.raises(ConfigError, match="target_fars"):
        VerificationBenchmark(path=path, target_fars=[0])
    with pytest.raises(ConfigError, match="num_folds is 1"):
        VerificationBenchmark(path=path, num_folds=1)


def test_what_cannot_be_scored_names_file_and_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.bin: cannot be opened"):
        list(VerificationBenchmark(path=str(tmp_path / "nowhere.bin")).evaluate(_colour))
    path = tmp_path / "own.bin"
    write_pairs(path, [_flat(RED), _flat(RED), _flat(RED), _flat(BLUE, (96, 96))] * 2, [True, False] * 2)
    with pytest.raises(DataError, match=r"own\.bin, image 3: the image is 96 x 96 pixels, image 0 is 112 x 112"):
        list(VerificationBenchmark(path=str(path), num_folds=2).evaluate(_colour))
    named = (
        r"own\.bin, image 0: the image is 112 x 112 pixels, but the model takes 112 x 96 \(input\.height_px=112 "
        r"input\.width_px=96\)\. .*size=\[112,96\].* a model with input\.height_px=112 input\.width_px=112"
    )
    with pytest.raises(DataError, match=named):
        VerificationBenchmark(path=str(path), num_folds=2, size_px=(112, 96)).check()
    with pytest.raises(DataError, match=r"own\.bin, image 3: the image is 96 x 96 .* the model takes 112 x 112"):
        list(VerificationBenchmark(path=str(path), num_folds=2, size_px=(112, 112)).evaluate(_colour))
    with pytest.raises(DataError, match=r"own\.bin: 4 pairs .* 2 folds fit"):
        list(VerificationBenchmark(path=str(path)).evaluate(_colour))
    _write_colour_pairs(path)
    with pytest.raises(ModelError, match=r"own\.bin, image 0: its embedding is not finite"):
        list(VerificationBenchmark(path=str(path)).evaluate(lambda images: _colour(images) * np.nan))


def test_constant_embedder_scores_one_half(tmp_path: Path) -> None:
    _write_colour_pairs(tmp_path / "colours.bin")
    for value in (0.0, 1.0):
        embed = lambda images, value=value: np.full((len(images), 4), value, dtype=np.float32)  # noqa: E731
        figures = values_of(VerificationBenchmark(path=str(tmp_path / "colours.bin")).evaluate(embed))
        assert (figures["accuracy"], figures["auc"], figures["eer"]) == (0.5, 0.5, 0.5)
        assert figures["tar_at_far_1e-1"] == 0.0


def test_real_pairs_with_blurred_pixels(real_data: Path) -> None:
    benchmark = VerificationBenchmark(path=str(real_data / "lfw_dev.bin"))

    def blurred(images: np.ndarray) -> np.ndarray:
        small = images.reshape(len(images), 16, 7, 16, 7, 3).mean(axis=(2, 4, 5)).reshape(len(images), -1)
        return (small - small.mean(axis=1, keepdims=True)).astype(np.float32)

    figures = values_of(benchmark.evaluate(blurred))
    embeddings = benchmark._normalised_embeddings(benchmark._pairs, blurred)
    cosines = (embeddings[0::2] * embeddings[1::2]).sum(axis=1)
    is_same = benchmark._pairs.is_same
    accuracies, thresholds = _naive(2 - 2 * cosines, is_same, 10)
    assert figures["accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-3)
    assert figures["threshold_cosine"] == pytest.approx(1 - np.mean(thresholds) / 2, abs=1e-3)
    assert figures["auc"] == pytest.approx(Roc(cosines, is_same).auc, abs=1e-9)
    assert 0.55 < figures["accuracy"] < 0.75


def test_real_file_of_one_kind_is_refused(real_data: Path) -> None:
    with pytest.raises(DataError, match=r"insightface_small_lfw\.bin: 10 pairs \(10 of one person, 0 of two\)"):
        list(VerificationBenchmark(path=str(real_data / "insightface_small_lfw.bin")).evaluate(_colour))


def pairs_of_embeddings(num_pairs: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    is_same = np.arange(num_pairs) % 2 == 0
    first_PD = random.normal(size=(num_pairs, 8)) * random.uniform(1, 9, (num_pairs, 1))
    near_PD = first_PD / np.linalg.norm(first_PD, axis=1, keepdims=True) + random.normal(size=(num_pairs, 8)) * 0.45
    return first_PD, np.where(is_same[:, None], near_PD, random.normal(size=(num_pairs, 8))), is_same


def test_metrics_of_arrays_are_those_of_the_protocol():
    first_PD, second_PD, is_same = pairs_of_embeddings()
    cos_P = (first_PD * second_PD).sum(axis=1) / np.linalg.norm(first_PD, axis=1) / np.linalg.norm(second_PD, axis=1)
    found = {m.name: m for m in verification_metrics(is_same, embeddings=(first_PD, second_PD), target_fars=[1e-2])}
    accuracies = []
    for fold in range(10):  # the plain way: the best threshold of the other folds, applied to this one
        mine = slice(40 * fold, 40 * fold + 40)
        others = np.delete(np.arange(400), np.arange(400)[mine])
        right = [((2 - 2 * cos_P[others] < t) == is_same[others]).mean() for t in np.arange(0, 4, 0.01)]
        accuracies.append(((2 - 2 * cos_P[mine] < 0.01 * np.argmax(right)) == is_same[mine]).mean())
    assert found["accuracy"].value == pytest.approx(np.mean(accuracies), abs=1e-12) and 0.7 < np.mean(accuracies) < 0.98
    assert found["accuracy"].is_leading and found["accuracy_std"].value == pytest.approx(np.std(accuracies))
    roc = Roc(cos_P, is_same)
    assert found["auc"].value == pytest.approx(roc.auc) and found["eer"].value == pytest.approx(roc.eer)
    assert found["tar_at_far_1e-2"].value == pytest.approx(roc.at_far(1e-2).tar)
    of_scores = verification_metrics(is_same.astype(int), scores=cos_P.tolist(), target_fars=[1e-2])
    assert [(m.name, pytest.approx(m.value)) for m in of_scores] == [(m.name, m.value) for m in found.values()]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({}, ConfigError, "give either embeddings"),
        ({"scores": np.zeros(400), "embeddings": ([], [])}, ConfigError, "give either embeddings"),
        ({"scores": np.full(400, 87.0)}, DataError, r"scores are from 87 to 87; expected cosines.*Roc\(scores"),
        ({"scores": np.zeros(399)}, DataError, r"\(399,\) pairs, but is_same is \(400,\)"),
        ({"scores": np.full(400, np.nan)}, DataError, "expected cosines"),
        ({"embeddings": (np.ones((400, 3)), np.ones((400, 4)))}, DataError, r"shapes \(400, 3\) and \(400, 4\)"),
        ({"embeddings": (np.zeros((400, 3)), np.ones((400, 3)))}, DataError, "the first embedding of pair 0 is zero"),
        ({"scores": np.zeros(400), "num_folds": 1}, ConfigError, "num_folds is 1"),
        ({"scores": np.zeros(400), "target_fars": [1e-4]}, DataError, "cannot measure FAR 0.0001"),
    ],
)
def test_arrays_that_cannot_be_pairs_are_refused(change, error, says):
    with pytest.raises(error, match=says):
        verification_metrics(np.arange(400) % 2 == 0, **change)


def test_answers_that_are_neither_true_nor_false_are_refused():
    with pytest.raises(DataError, match=r"is_same is int64 \(3,\); expected true or false"):
        verification_metrics([0, 1, 2], scores=[0.1, 0.2, 0.3])
