"""Synthetic faces: reproducible, aligned, posed in depth, neither trivial nor impossible to tell apart."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facerec.align.photo_reader import decode_rgb
from facerec.align.similarity import TEMPLATE_112, similarity_transform
from facerec.core.errors import ConfigError, DataError
from facerec.data.verification_file import read_pairs
from facerec.synthetic import source
from facerec.synthetic.features import SUBPIXELS, FaceModel
from facerec.synthetic.head_surface import HeadSurface, Poses
from facerec.synthetic.identity import Identity, Sample
from facerec.synthetic.source import (
    FIRST_TEST_IDENTITY,
    PHOTO_PX,
    SyntheticFaces,
    SyntheticSource,
    prepare_synthetic,
)

SMALL_SET = dict(
    num_train_identities=3, images_per_identity=4, num_test_identities=20, num_test_pairs=20, seed=5, progress=False
)


def _landmarks_in_pose(identity: int, **changes: float) -> np.ndarray:
    """The landmarks of an identity, without jitter, with its sample 0 in another pose."""
    person = Identity.draw(seed=0, identity=identity)
    sample = Sample.draw(seed=0, identity=identity, sample=0, person=person)
    sample = dataclasses.replace(sample, **{"yaw": 0.0, "pitch": 0.0, "roll": 0.0, **changes})
    face = FaceModel(HeadSurface(person))
    outlines = face.pose([sample], Poses([sample], photo_px=PHOTO_PX))
    return face.parts(outlines[0])["landmarks"][0] / SUBPIXELS / sample.scale_px


def test_same_numbers_give_the_same_bytes_in_any_order_and_batch() -> None:
    forwards, backwards = SyntheticFaces(seed=3), SyntheticFaces(seed=3)
    keys = [(identity, sample) for identity in (0, 7) for sample in (0, 1, 900)]
    first = {key: forwards.encoded(*key) for key in keys}
    second = {key: backwards.encoded(*key) for key in reversed(keys)}
    assert first == second
    for identity in (0, 7):
        assert forwards.encoded_samples(identity, [0, 1, 900]) == [first[identity, sample] for sample in (0, 1, 900)]


def test_seed_identity_and_sample_all_change_the_image() -> None:
    images = [SyntheticFaces(seed=s).encoded(i, j) for s, i, j in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len(set(images)) == 4


def test_crop_photo_and_file_have_the_promised_form() -> None:
    faces = SyntheticFaces(seed=0)
    photo, landmarks = faces.photo(1, 2)
    assert photo.dtype == np.uint8 and photo.shape == (PHOTO_PX, PHOTO_PX, 3)
    assert landmarks.dtype == np.float64 and landmarks.shape == (5, 2)
    crop = faces.crop(1, 2)
    assert crop.dtype == np.uint8 and crop.shape == (112, 112, 3)
    decoded = decode_rgb(faces.encoded(1, 2), where="sample")
    assert decoded.shape == crop.shape
    assert np.abs(decoded.astype(int) - crop).mean() < 12, "the file holds another image than the crop"


def test_crops_of_other_sizes_show_the_same_face() -> None:
    usual, narrow = SyntheticFaces(seed=0), SyntheticFaces(seed=0, size_px=(112, 96))
    difference = narrow.crop(4, 2).astype(int) - usual.crop(4, 2)[:, 8:104]
    assert np.abs(difference).max() <= 2  # OpenCV 4 rounds the last columns of a row in another way
    assert decode_rgb(SyntheticFaces(seed=0, size_px=(64, 80)).encoded(4, 2), where="").shape == (64, 80, 3)


def test_set_of_another_size_lies_in_a_folder_of_its_own(small_set: Path, tmp_path: Path) -> None:
    numbers = {key: value for key, value in SMALL_SET.items() if key != "progress"}
    source = SyntheticSource(root=str(tmp_path), height_px=112, width_px=96, **numbers)
    assert source.image(0).shape == (112, 96, 3)
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{small_set.name}-112x96-px"
    assert (folder / "property").read_text() == "3,112,96\n"
    (benchmark,) = source.benchmarks()
    assert read_pairs(benchmark).decode(0).shape == (112, 96, 3)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed=-1"):
        SyntheticFaces(seed=-1)


def test_landmarks_lie_in_the_photo_and_on_the_template() -> None:
    faces = SyntheticFaces(seed=0)
    squared_distances = []
    for identity in range(12):
        for sample in range(5):
            photo, landmarks = faces.photo(identity, sample)
            assert (landmarks > 0).all() and (landmarks < len(photo)).all()
            matrix = similarity_transform(landmarks, TEMPLATE_112)
            aligned = landmarks @ matrix[:, :2].T + matrix[:, 2]
            squared_distances.append(np.square(aligned - TEMPLATE_112).sum(axis=1))
    # Real photos (lfw_photos) have 3.42 px; these turn their heads as much and a little more.
    assert 2.0 < np.sqrt(np.mean(squared_distances)) < 5.5


def test_yaw_moves_features_by_their_depth() -> None:
    frontal, turned = (_landmarks_in_pose(4, yaw=yaw) for yaw in (0.0, 0.4))
    moved = turned[:, 0] - frontal[:, 0]
    eyes, nose, mouth = moved[:2].mean(), moved[2], moved[3:].mean()
    # The face is held in the middle of the photo; the nose stands out, the eyes lie back.
    assert nose - eyes > 0.08
    assert eyes < mouth < nose
    # The far side (the image's right) is foreshortened.
    nose_to_eye = np.abs(turned[:2, 0] - turned[2, 0])
    assert nose_to_eye[1] < 0.6 * nose_to_eye[0]


def test_pitch_moves_the_nose_against_eyes_and_mouth() -> None:
    up, down = (_landmarks_in_pose(4, pitch=pitch) for pitch in (-0.3, 0.3))
    share = [(p[2, 1] - p[:2, 1].mean()) / (p[3:, 1].mean() - p[:2, 1].mean()) for p in (up, down)]
    assert share[1] - share[0] > 0.15


def test_roll_turns_the_face_in_the_image() -> None:
    rolled = _landmarks_in_pose(4, roll=0.3)
    across = rolled[1] - rolled[0]
    assert np.arctan2(across[1], across[0]) == pytest.approx(0.3, abs=0.06)


def test_features_drawn_on_the_face_keep_to_its_surface() -> None:
    head = HeadSurface(Identity.draw(seed=0, identity=0))
    points = head.lift(np.array([[[0.0, 0.1], [0.0, head.person.nose_length], [0.6, 0.1]]]))[0]
    assert points[1, 2] - points[0, 2] > 0.1, "the nose stands out"
    assert points[0, 2] - points[2, 2] > 0.1, "the cheek lies further back"


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield prepare_synthetic(root=tmp_path_factory.mktemp("cache"), **SMALL_SET)


def test_prepared_set_is_in_insightface_layout_beside_its_pairs(small_set: Path) -> None:
    assert sorted(path.name for path in small_set.iterdir()) == [
        "property",
        "synthetic_test.bin",
        "train.idx",
        "train.rec",
    ]
    assert (small_set / "property").read_text().strip() == "3,112,112"
    pairs = read_pairs(small_set / "synthetic_test.bin")
    assert len(pairs) == 20
    assert pairs.is_same.reshape(10, 2).sum(axis=1).tolist() == [1] * 10


def test_test_identities_are_never_trained_on(small_set: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: set[int] = set()
    original = SyntheticFaces.encoded_samples

    def watched(self: SyntheticFaces, identity: int, samples: list[int]) -> list[bytes]:
        drawn.add(identity)
        return original(self, identity, samples)

    monkeypatch.setattr(SyntheticFaces, "encoded_samples", watched)
    prepare_synthetic(root=tmp_path, **SMALL_SET)
    train = {identity for identity in drawn if identity < FIRST_TEST_IDENTITY}
    test = drawn - train
    assert train == {0, 1, 2}
    assert len(test) == 20 and min(test) == FIRST_TEST_IDENTITY


def test_no_fold_shares_an_identity_and_no_image_is_used_twice() -> None:
    samples, is_same = source._deal_pairs(40, 200, seed=1)
    assert len({tuple(row) for row in samples.tolist()}) == 400
    identities = samples[:, 0].reshape(200, 2)
    np.testing.assert_array_equal(identities[:, 0] == identities[:, 1], is_same)
    folds = [set(fold.ravel()) for fold in np.split(identities, 10)]
    assert sum(len(fold) for fold in folds) == len(set().union(*folds))


def test_cache_is_reused(small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "write_record_set", lambda *_: pytest.fail("drawn again"))
    assert prepare_synthetic(root=small_set.parent, **SMALL_SET) == small_set


def test_drawing_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "write_pairs", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_synthetic(root=tmp_path, **SMALL_SET)
    assert list(tmp_path.iterdir()) == []


def test_set_that_another_process_finished_first_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = source.write_pairs

    def write_and_be_overtaken(path: Path, images: list[bytes], is_same: list[bool]) -> None:
        original(path, images, is_same)
        other = path.parent.with_name(path.parent.name.partition(".partial")[0])
        other.mkdir()
        (other / "train.rec").write_text("the other's")

    monkeypatch.setattr(source, "write_pairs", write_and_be_overtaken)
    folder = prepare_synthetic(root=tmp_path, **SMALL_SET)
    assert (folder / "train.rec").read_text() == "the other's"
    assert list(tmp_path.iterdir()) == [folder]


def test_cache_folder_that_is_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="FACEREC_CACHE"):
        prepare_synthetic(root=None, **SMALL_SET)


@pytest.mark.parametrize("name", ["faces", "faces/train.rec"])
def test_nothing_is_drawn_into_a_folder_of_other_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "train.rec").write_text("own")
    says = rf"data\.root=.*{name} holds other files, such as train\.rec, .*: data=on_disk data\.root=.*{name}; "
    with pytest.raises(ConfigError, match=says):
        prepare_synthetic(root=tmp_path / name, **SMALL_SET)
    assert [path.name for path in (tmp_path / "faces").iterdir()] == ["train.rec"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"num_test_pairs": 30}, "num_test_pairs=30"),
        ({"num_test_identities": 10}, "num_test_identities=10"),
        ({"num_train_identities": 1}, "num_train_identities=1"),
        ({"images_per_identity": 0}, "images_per_identity=0"),
    ],
)
def test_sizes_that_make_no_set_are_refused(changed: dict[str, int], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        prepare_synthetic(root=tmp_path, **{**SMALL_SET, **changed})


def test_source_opens_nothing_before_first_use_and_then_serves_the_set(
    small_set: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes = {name: value for name, value in SMALL_SET.items() if name != "progress"}
    monkeypatch.setenv("FACEREC_CACHE", str(tmp_path / "unused"))
    SyntheticSource(**sizes)
    assert not (tmp_path / "unused").exists()

    monkeypatch.setenv("FACEREC_CACHE", str(small_set.parent))
    source = SyntheticSource(**sizes)
    assert len(source) == 12 and source.num_classes == 3
    assert source.labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    expected = decode_rgb(SyntheticFaces(seed=5).encoded(1, 2), where="drawn")
    np.testing.assert_array_equal(source.image(6), expected)
    assert source.benchmarks() == [small_set / "synthetic_test.bin"]
    assert "train.rec" in source.name(6)
    assert len(source.fingerprint()) == 64


def test_colours_and_blurred_pixels_do_not_tell_identities_apart() -> None:
    from facerec.evaluation.baselines import ColourHistogram, PixelPCA
    from facerec.evaluation.verification import fold_accuracies

    faces = SyntheticFaces(seed=0)
    num_train, num_test, num_samples, num_pairs = 25, 40, 8, 600
    images = np.stack(
        [
            decode_rgb(file, where="drawn")
            for identity in range(num_train + num_test)
            for file in faces.encoded_samples(identity, range(num_samples))
        ]
    )
    train, test = images[: num_train * num_samples], images[num_train * num_samples :]
    rng = np.random.default_rng(0)
    places, is_same = [], np.arange(num_pairs) % 2 == 0
    for same in is_same:
        first, second = rng.choice(num_test, 2, replace=False)
        one, other = rng.choice(num_samples, 2, replace=False)
        places.append((first * num_samples + one, (first if same else second) * num_samples + other))
    for baseline in (ColourHistogram(), PixelPCA().fit(train)):
        embeddings = baseline(test)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        left, right = (embeddings[list(side)] for side in zip(*places, strict=True))
        accuracy = fold_accuracies(np.square(left - right).sum(axis=1), is_same).accuracy
        assert accuracy < 0.80, f"{type(baseline).__name__}: {accuracy:.3f}"
