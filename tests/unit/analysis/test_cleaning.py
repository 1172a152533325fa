"""What cleaning proposes, on sets whose faults are known."""

import io

import numpy as np
import pytest

from facerec.analysis import identity_centres
from facerec.analysis.cleaning import Cleaner
from facerec.analysis.identity_centres import IdentityCentres, normalised
from facerec.core import progress_bar
from facerec.embedding import nearest
from tests.unit.analysis.faulty_set import faulty_set

DIM = 64


def clusters(counts, *, spread: float = 0.9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Directions around one random centre per identity; two of one identity have a cosine of about 0.55."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = normalised(rng.normal(size=(len(counts), DIM)))
    noise = normalised(rng.normal(size=(len(labels), DIM)))
    return normalised(centres[labels] + spread * noise), labels


def cleaner_of(emb: np.ndarray, labels: np.ndarray, **arguments) -> Cleaner:
    names = [f"id{number}" for number in range(int(labels.max()) + 1)]
    emb_ND = emb.astype(np.float16)
    return Cleaner(emb_ND=emb_ND, labels=labels, identities=names, name=lambda image: f"image {image}", **arguments)


def test_centres_are_the_trimmed_means_and_own_cosines_leave_the_image_out():
    emb, labels = clusters([4, 6, 3])
    centres = IdentityCentres(emb, labels, num_identities=3)
    own = centres.own_cosines()
    for identity in range(3):
        images = np.flatnonzero(labels == identity)
        kept = [image for image in images if centres._kept_N[image]]
        assert len(kept) == np.ceil(0.75 * len(images)) and centres.images(identity).tolist() == images.tolist()
        assert np.allclose(centres.centres_CD[identity], normalised(emb[kept].sum(axis=0, keepdims=True))[0], atol=1e-6)
        for image in images:
            others = normalised(sum(emb[other] for other in kept if other != image)[None])[0]
            assert own[image] == pytest.approx(float(others @ emb[image]), abs=1e-5)


def test_places_are_those_of_a_slow_search():
    emb, labels = clusters([5] * 20)
    centres = IdentityCentres(emb, labels, num_identities=20)
    places = centres.places()
    for image in range(0, 100, 7):
        cosines = {identity: float(centres.centres_CD[identity] @ emb[image]) for identity in range(20)}
        del cosines[int(labels[image])]
        nearest = max(cosines, key=cosines.__getitem__)
        assert places.nearest_N[image] == nearest
        assert places.other_N[image] == pytest.approx(cosines[nearest], abs=1e-6)


def test_images_with_the_label_of_another_identity_are_found_and_so_is_their_own():
    emb, truth = clusters([20] * 60)
    rng = np.random.default_rng(5)
    labels, moved = truth.copy(), rng.choice(len(truth), 36, replace=False)
    labels[moved] = (truth[moved] + rng.integers(1, 60, 36)) % 60
    found = list(cleaner_of(emb, labels).mislabelled())
    assert {one.image for one in found} == set(moved.tolist())
    assert all(one.to == f"id{truth[one.image]}" and one.identity == f"id{labels[one.image]}" for one in found)
    assert all(one.action == "drop" and 0.5 <= one.score <= 1 for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_clean_set_stays_as_it_is():
    cleaner = cleaner_of(*clusters([20] * 60))
    assert not [*cleaner.mislabelled(), *cleaner.two_people(), *cleaner.one_person()]


def test_an_identity_of_two_people_is_split():
    emb, truth = clusters([15] * 40 + [8] * 4)
    labels = np.where(truth >= 40, truth - 40, truth)  # four identities hold a second person each
    found = list(cleaner_of(emb, labels).two_people())
    assert {one.image for one in found} == set(np.flatnonzero(truth >= 40).tolist())
    assert {(one.action, one.to == f"{one.identity}_2", one.kind) for one in found} == {("move", True, "two_people")}


def test_one_person_under_two_names_is_merged_into_the_larger():
    emb, truth = clusters([18] * 40)
    labels = truth.copy()
    for number, identity in enumerate((3, 11, 30)):
        labels[np.flatnonzero(truth == identity)[:6]] = 40 + number
    found = list(cleaner_of(emb, labels).one_person())
    assert {(one.identity, one.to, one.action) for one in found} == {
        ("id40", "id3", "merge"), ("id41", "id11", "merge"), ("id42", "id30", "merge"),
    }  # fmt: skip


def test_people_of_a_benchmark_are_found():
    emb, labels = clusters([12] * 50)
    rng = np.random.default_rng(6)
    strangers = normalised(rng.normal(size=(80, DIM)))
    benchmark = np.concatenate([strangers, emb[[7 * 12 + 3, 20 * 12]]])
    keep = np.ones(len(labels), dtype=bool)
    keep[[7 * 12 + 3, 20 * 12]] = False
    found = list(cleaner_of(emb[keep], labels[keep]).in_benchmark(benchmark, benchmark="lfw.bin"))
    assert {(one.identity, one.action) for one in found} == {("id7", "drop_identity"), ("id20", "drop_identity")}
    of_7 = next(one for one in found if one.identity == "id7")
    assert "image 80 of lfw.bin" in of_7.why and (of_7.path, of_7.like, of_7.image) == ("lfw.bin", 80, None)


def test_copies_of_a_photo_are_dropped_but_for_the_one_that_fits_best():
    emb, labels = clusters([8] * 10)
    rng = np.random.default_rng(7)
    thumbnails = rng.normal(size=(80, 256)).astype(np.float32)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails = normalised(thumbnails)
    emb[5], thumbnails[5] = emb[2], thumbnails[2]  # of one identity
    thumbnails[20] = thumbnails[17].reshape(16, 16)[:, ::-1].reshape(-1)  # mirrored
    emb[75], thumbnails[75] = emb[30], thumbnails[30]  # of another identity, where it does not belong
    thumbnails[50] = thumbnails[61]  # of another identity, which the embedding does not know
    thumbnails[[7, 15]] = 0  # without contrast
    found = {one.image: one for one in cleaner_of(emb, labels).duplicates(thumbnails, min_correlation=0.97)}
    (copy,) = set(found) & {50, 61}
    assert {image: one.like for image, one in found.items()} == {5: 2, 20: 17, 75: 30, copy: 50 + 61 - copy}
    assert found[75].identity == "id9" and found[75].to == "id3" and found[5].action == "drop"


def test_images_that_could_not_be_read_and_identities_too_small_to_judge_are_left_alone():
    emb, labels = clusters([20] * 30 + [2])
    emb[[0, 4]] = 0
    emb[-1] = emb[100]
    found = list(cleaner_of(emb, labels).mislabelled())
    assert not {0, 4, len(labels) - 1, len(labels) - 2} & {one.image for one in found}


def test_large_identities_are_split_alike():
    emb, truth = clusters([100] * 2 + [12] * 40 + [60])
    labels = np.where(truth == 42, 0, truth)
    found = list(cleaner_of(emb, labels).two_people())
    assert {one.image for one in found} == set(np.flatnonzero(truth == 42).tolist())


def test_one_copy_of_every_photo_stays():
    emb, labels = clusters([8] * 10)
    thumbnails = np.random.default_rng(7).normal(size=(80, 256)).astype(np.float32)
    thumbnails = normalised(thumbnails - thumbnails.mean(axis=1, keepdims=True))
    copies = [0, 1, 8, 9, 17]  # in three identities, and each fits its own otherwise
    thumbnails[copies] = thumbnails[0]
    found = {one.image for one in cleaner_of(emb, labels).duplicates(thumbnails, min_correlation=0.97)}
    assert found < set(copies) and len(found) == 4


def test_second_person_gets_a_name_that_nobody_has():
    emb, labels = clusters([24] * 40)
    emb[12:24] = emb[24:36]  # id0 is two people
    names = [f"id{label}" for label in range(40)]
    names[7:9] = ["id0_2", "id0_3"]
    cleaner = Cleaner(emb_ND=emb, labels=labels, identities=names, name=str)
    assert {one.to for one in cleaner.two_people() if one.identity == "id0"} == {"id0_4"}


@pytest.mark.parametrize(("rows", "columns"), [(1, 1000), (50, 7), (9, 16)])
def test_blocks_of_any_size_give_the_same_proposals(rows, columns, monkeypatch):
    expected = faulty_set().told()
    monkeypatch.setattr(identity_centres, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(nearest, "TILE_ROWS", rows)
    monkeypatch.setattr(nearest, "TILE_COLUMNS", columns)
    assert expected and faulty_set().told() == expected


def test_what_takes_long_shows_how_far_it_is(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress_bar, "DELAY_S", 0)
    faulty_set().told()
    for what in (
        "computing the centres of identities",
        "comparing with identities",
        "searching for second people",
        "searching for copies",
    ):
        assert f"{what}: 100%" in screen.getvalue()


def test_strangers_are_no_second_person_however_many_identities_have_one_image():
    emb, labels = clusters([15] * 30 + [1] * 600)
    away = -emb[:12].mean(axis=0, keepdims=True)
    basis = np.linalg.qr(np.concatenate([away, np.random.default_rng(1).normal(size=(3, DIM))]).T)[0].T
    towards = basis[0] * np.sign(basis[0] @ away[0])
    emb[12:15] = normalised(0.35 * towards + basis[1:])  # away from the others, with a cosine of 0.11 to each other
    assert not list(cleaner_of(emb, labels).two_people())


def test_photos_that_look_like_one_other_identity_come_before_those_that_look_like_nobody():
    emb, truth = clusters([12] * 40)
    rng = np.random.default_rng(2)
    labels = truth.copy()
    moved, odd = np.split(rng.permutation(len(truth))[:24], 2)
    labels[moved] = (truth[moved] + rng.integers(1, 40, 12)) % 40
    emb[odd] = normalised(rng.normal(size=(12, DIM)))  # far from everybody, as a childhood photo is
    found = list(cleaner_of(emb, labels).mislabelled())
    assert [one.image in moved for one in found] == [True] * 12 + [False] * 12
    assert {one.image for one in found[12:]} == set(odd.tolist())
    assert all(one.score > 0.99 for one in found)  # which cannot tell them apart
    assert all(one.why.endswith("; 5 of the 5 nearest images are of `to`") for one in found[:12])


def test_identity_with_few_images_is_compared_with_as_many():
    emb, truth = clusters([12] * 40 + [3])
    labels = truth.copy()
    labels[np.flatnonzero(truth == 40)[0]] = 7
    (one,) = cleaner_of(emb, labels).mislabelled()
    assert one.to == "id40" and one.why.endswith("; 2 of the 2 nearest images are of `to`")
