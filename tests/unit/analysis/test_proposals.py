"""Proposals go through a CSV and back, as edited, and are applied to the labels."""

import numpy as np
import pytest

from facerec.analysis.proposals import Proposal, applied, read_proposals, write_proposals
from facerec.core.errors import DataError

NAMES = ["a", "b", "c", "d"]
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 3])


def proposal(action: str, image: int | None = None, identity: str = "a", to: str = "") -> Proposal:
    return Proposal(
        kind="mislabelled", action=action, image=image, identity=identity, to=to, score=0.5, path="", like=None, why=""
    )


def outcome(*proposals: Proposal) -> list[tuple[int, str]]:
    samples, labels, names = applied(proposals, LABELS, NAMES)
    return [(sample, names[labels[sample]]) for sample in samples.tolist()]


def test_a_csv_gives_back_what_was_written(tmp_path):
    proposals = [
        Proposal(kind="duplicate", action="drop", image=3, identity="Ünal, \"B\"", to="x", score=0.97, path="a,b/ü.jpg",
                 like=1, why="the same\nphoto"),
        Proposal(kind="one_person", action="merge", image=None, identity="a", to="b", score=1.0, path="", like=None,
                 why="cosine 0.81"),
    ]  # fmt: skip
    write_proposals(tmp_path / "p.csv", proposals)
    assert read_proposals(tmp_path / "p.csv") == proposals


def test_nothing_proposed_changes_nothing():
    assert outcome() == [(i, NAMES[label]) for i, label in enumerate(LABELS)]


def test_images_are_dropped_and_moved_and_identities_merged_and_dropped():
    assert outcome(
        proposal("drop", 1),
        proposal("move", 2, to="b"),
        proposal("move", 4, identity="b", to="b_2"),
        proposal("merge", identity="c", to="b"),
        proposal("drop_identity", identity="d"),
    ) == [(0, "a"), (2, "b"), (3, "b"), (4, "b_2"), (5, "b"), (6, "b")]


def test_merging_goes_on_from_name_to_name_in_any_order_and_in_circles():
    chains = [proposal("merge", identity="a", to="b"), proposal("merge", identity="b", to="c")]
    for proposals in (chains, chains[::-1]):
        assert {name for _, name in outcome(*proposals)} == {"c", "d"}
    circle = outcome(*chains, proposal("merge", identity="c", to="a"))
    assert len({name for sample, name in circle if sample < 7}) == 1


def test_a_moved_image_goes_with_its_new_identity():
    assert (2, "c") in outcome(proposal("move", 2, to="b"), proposal("merge", identity="b", to="c"))
    assert 2 not in dict(outcome(proposal("move", 2, to="b"), proposal("drop_identity", identity="b")))


@pytest.mark.parametrize(
    ("proposals", "says"),
    [
        ([proposal("drop", 8)], "image 8 of 'a', which the set does not have"),
        ([proposal("drop", 0, identity="z")], "of 'z', which the set does not have"),
        ([proposal("merge", to="z")], "'a' is to be merged with 'z'"),
        ([proposal("move", 1, to="b"), proposal("move", 1, to="c")], "image 1 has proposals to move to 'b' and to 'c'"),
    ],
)
def test_proposals_of_another_set_are_refused(proposals, says):
    with pytest.raises(DataError, match=says):
        applied(proposals, LABELS, NAMES)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("m,remove,3,a,b,1,,,", "line 2: action 'remove'; expected drop, move, merge, drop_identity"),
        ("m,drop,,a,b,1,,,", "line 2: action drop with image ''"),
        ("m,merge,3,a,b,1,,,", "line 2: action merge with image '3'"),
        ("m,move,3,a,,1,,,", "line 2: action move without a name in the column to"),
        ("m,drop,3,a,b,high,,,", "line 2: score 'high' is not a number"),
        ("m,drop," + "9" * 5000 + ",a,b,1,,,", "line 2: action drop with image '9{40}'; drop and move take"),
        ("m,drop,3,a,b,1,,," + "x" * 140_000, "line 2: field larger than field limit"),
        ('m,drop,3,a,b,1,,,"one\nm,drop,4,a,b,1,,,', "line 2: unexpected end of data; is a quotation mark missing"),
    ],
)
def test_lines_that_do_not_fit_are_named(line, says, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"kind,action,image,identity,to,score,path,like,why\n{line}\n")
    with pytest.raises(DataError, match=says):
        read_proposals(path)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(DataError, match="run clean without apply=true first"):
        read_proposals(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("path,identity\n")
    with pytest.raises(DataError, match="the header lacks action, image"):
        read_proposals(tmp_path / "other.csv")
