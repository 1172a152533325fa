"""Choosing a person's face by the other photos of the folder, on embeddings that are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facerec.align.candidate_faces import FaceChoice
from facerec.analysis.folder_faces import judged
from facerec.analysis.identity_centres import normalised

NUM_PEOPLE, PER_PERSON, DIM = 8, 6, 32
DIRECTIONS = normalised(np.random.default_rng(0).normal(size=(NUM_PEOPLE + 1, DIM)))  # the last one is a stranger
STRANGER = NUM_PEOPLE


def candidates_of(photos: list[tuple[int, list[int]]], *, seed: int = 1) -> tuple[Any, np.ndarray]:
    """The candidates of photos, each the folder it lies in and the people on it; and their embeddings."""
    rng = np.random.default_rng(seed)
    faces = [
        (number, face, len(people) == 1, folder, who)
        for number, (folder, people) in enumerate(photos)
        for face, who in enumerate(people)
    ]
    number, face, is_only, label, who = map(np.array, zip(*faces, strict=True))
    candidates = SimpleNamespace(
        number_K=number, face_K=face, is_only_K=is_only.astype(bool), label_K=label, name=str,
        wanted=SimpleNamespace(identities=[f"p{folder}" for folder in range(NUM_PEOPLE)]),
    )  # fmt: skip
    return candidates, normalised(DIRECTIONS[who] + 0.6 * normalised(rng.normal(size=(len(who), DIM))))


def sorted_photos(*more: tuple[int, list[int]]) -> list[tuple[int, list[int]]]:
    """Photos with one face of every person, and more, by folder."""
    single = [(person, [person]) for person in range(NUM_PEOPLE) for _ in range(PER_PERSON)]
    return sorted([*single, *more], key=lambda photo: photo[0])


def test_face_of_the_folders_person_is_taken_wherever_it_stands():
    photos = sorted_photos((0, [STRANGER, 0]), (3, [3, 5]), (6, [2, STRANGER, 6]))
    candidates, emb = candidates_of(photos)
    choices = judged(candidates, emb.astype(np.float16)).choices
    several = [number for number, (_, people) in enumerate(photos) if len(people) > 1]
    assert sorted(choices) == several
    assert [(choices[number].face, choices[number].is_first) for number in several] == [
        (1, False), (0, True), (2, False),
    ]  # fmt: skip
    own = np.flatnonzero((candidates.label_K == 0) & candidates.is_only_K)
    centre = normalised(emb[own].sum(axis=0, keepdims=True))[0]
    theirs = emb[candidates.number_K == several[0]]
    assert choices[several[0]] == FaceChoice(
        face=1, is_first=False, num_others=PER_PERSON,
        cosine=pytest.approx(float(theirs[1] @ centre), abs=2e-3),
        next_cosine=pytest.approx(float(theirs[0] @ centre), abs=2e-3),
    )  # fmt: skip


def test_face_that_is_hardly_nearer_does_not_replace_the_rules():
    candidates, emb = candidates_of(sorted_photos((0, [STRANGER, 0])))
    rule, own = np.flatnonzero(~candidates.is_only_K)
    centre = normalised(emb[(candidates.label_K == 0) & candidates.is_only_K].sum(axis=0, keepdims=True))[0]
    across = normalised((emb[rule] - (emb[rule] @ centre) * centre)[None])[0]
    for cosine, taken in ((0.55, 1), (0.65, 0), (0.75, 0)):  # the person's face has 0.7
        emb[own] = 0.7 * centre + np.sqrt(1 - 0.7**2) * across
        emb[rule] = cosine * centre + np.sqrt(1 - cosine**2) * across
        (choice,) = judged(candidates, emb).choices.values()
        assert (choice.face, choice.is_first) == (taken, taken == 0)
        assert (choice.cosine, choice.next_cosine) == pytest.approx((0.7, cosine) if taken else (cosine, 0.7), abs=1e-5)


def test_folder_without_a_photo_with_one_face_keeps_the_faces_of_the_rule():
    photos = [photo for photo in sorted_photos((4, [STRANGER, 4]), (4, [4, 2])) if photo[0] != 4 or len(photo[1]) > 1]
    candidates, emb = candidates_of(photos)
    assert judged(candidates, emb).choices == {}
    photos = sorted_photos((4, [STRANGER, 4]))
    candidates, emb = candidates_of(photos)
    unreadable = np.where(((candidates.label_K == 4) & candidates.is_only_K)[:, None], 0, emb)
    assert judged(candidates, unreadable).choices == {}


def test_crop_that_looks_like_another_person_is_doubtful_and_the_right_choice_is_not():
    photos = sorted_photos((0, [5]), (7, [STRANGER]), (3, [1, 3]))
    candidates, emb = candidates_of(photos)
    found = judged(candidates, emb)
    wrong = [
        number for number, (folder, people) in enumerate(photos) if people in ([5], [STRANGER]) and folder in (0, 7)
    ]
    assert sorted(one.number for one in found.doubtful) == wrong
    of_5 = next(one for one in found.doubtful if photos[one.number][0] == 0)
    assert of_5.like == "p5" and of_5.like_cosine > 0.6 and of_5.cosine < 0.4 and of_5.score > 0.9


def test_one_folder_alone_has_choices_and_no_doubtful_crops():
    photos = [(0, [0])] * 5 + [(0, [STRANGER, 0]), (0, [STRANGER])]
    candidates, emb = candidates_of(photos)
    found = judged(candidates, emb)
    assert found.choices[5].face == 1 and found.doubtful == []
