"""An inspection of folders, tables and verification sets finds what was planted; digests, bins, samples are right."""

import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.data.packing import pack_training_set
from facerec.data.sources import open_source
from facerec.data.verification_file import write_pairs
from facerec.inspection.findings import Findings
from facerec.inspection.survey import Survey, equal_items, is_grey, num_images_bins, sampled_rows
from tests.unit.inspection.inspections import SIZE_PX, inspected, png


@pytest.fixture
def folders(tmp_path) -> Path:
    for number, name in enumerate(["Ann/0.png", "Ann/1.png", "Bob/2.png", "Cid/3.png"]):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number, (112, 112)))
    return tmp_path / "crops"


def test_folders_and_what_is_packed_from_them_have_one_fingerprint_of_images(folders, tmp_path):
    inspection, faults, _ = inspected(folders)
    assert faults == [] and inspection.fingerprint == open_source(str(folders)).fingerprint()
    pack_training_set(open_source(str(folders)), tmp_path / "packed", samples=np.arange(4), num_threads=1)
    packed, faults, _ = inspected(tmp_path / "packed")
    assert faults == [] and packed.found.fingerprint() == inspection.found.fingerprint()
    assert packed.items.identity(1) == inspection.items.identity(1) == "Bob"
    names = tmp_path / "packed" / "identities.csv"
    names.write_text(names.read_text().replace("1,Bob,1", "1,Bob,2"))
    _, faults, _ = inspected(tmp_path / "packed")
    assert [(kind, file) for kind, file, *_ in faults] == [("names", "identities.csv")]
    assert "line 3: label 1 with 2 images; the record file has 1 of label 1" in faults[0][3]
    shutil.copy(folders / "Bob" / "2.png", folders / "Cid" / "3.png")
    assert inspected(folders)[0].found.fingerprint() != inspection.found.fingerprint()


def test_faults_of_folders(folders):
    (folders / "Dan").mkdir()
    shutil.copy(folders / "Ann" / "0.png", folders / "Bob" / "again.png")
    (folders / "Cid" / "gone.jpg").symlink_to("nowhere")
    (folders / "Cid" / "3.png").write_bytes(b"")
    inspection, faults, _ = inspected(folders)
    assert [(kind, file) for kind, file, *_ in faults] == [
        ("empty identity", "Dan"), ("no image", "Cid/3.png"), ("unreadable", "Cid/gone.jpg"),
        ("duplicate of another identity", "Bob/again.png"), ("empty identity", "Cid/3.png"),
    ]  # fmt: skip
    assert faults[-1][2:] == ("identity Cid", "none of the 2 images can be used")
    assert faults[-2][3].endswith("Ann/0.png, but this is identity Bob and that is identity Ann")
    assert inspection.fingerprint is None


def test_identity_whose_images_are_all_of_a_wrong_size_is_not_empty(folders):
    for number, name in enumerate(["Bob/2.png", "Cid/3.png"]):
        (folders / name).write_bytes(png(number + 10, (250, 200)))
    shutil.copy(folders / "Cid" / "3.png", folders / "Bob" / "more.png")
    (folders / "Cid" / "4.png").write_bytes(b"no image")
    (folders / "Ann" / "0.png").write_bytes(b"no image")
    (folders / "Ann" / "1.png").write_bytes(b"none either")
    inspection, faults, _ = inspected(folders)
    assert [(kind, file) for kind, file, *_ in faults if kind in ("size", "empty identity")] == [
        ("size", "Bob/2.png"), ("size", "Bob/more.png"), ("size", "Cid/3.png"), ("empty identity", "Ann/0.png"),
    ]  # fmt: skip
    assert not inspection.found.is_sound_N.any() and inspection.found.is_image_N.sum() == 3


def test_what_is_passed_over_is_noted(folders):
    (folders / "Ann" / "2019" / "deep").mkdir(parents=True)
    (folders / "Bob" / "Thumbs.db").touch()  # is no image, and no loss
    (folders / "Bob" / "4.psd").touch()
    (folders / "loose.jpg").touch()
    (folders / "report.csv").touch()
    _, faults, notes = inspected(folders)
    assert faults == []
    assert [(note.kind, note.file, note.what[:30]) for note in notes.all] == [
        ("passed over", str(folders / "loose.jpg"), "an image beside the folders of"),
        ("passed over", str(folders / "Ann" / "2019"), "a folder inside the folder of "),
        ("passed over", str(folders / "Bob" / "4.psd"), "its name does not end with .jp"),
    ]


def test_faults_of_tables(folders):
    table = folders / "list.csv"
    table.write_text("path,identity\nAnn/0.png,Ann\n,Ann\nAnn/1.png,\nnone.png,Bob\nBob/2.png,Bob\nBob/2.png,Bob\n")
    _, faults, _ = inspected(table)
    assert [(kind, file, record) for kind, file, record, _ in faults] == [
        ("line", "list.csv", "line 3"), ("line", "list.csv", "line 4"),
        ("unreadable", "none.png", ""), ("duplicate", "Bob/2.png", ""),
    ]  # fmt: skip
    table.write_text("path,identity\nAnn/0.png,Ann\nBob/\0.png,Bob\n")
    inspection, faults, _ = inspected(table)
    assert faults[0][0] == "unreadable" and "embedded null byte" in faults[0][3] and inspection.fingerprint is None


def test_one_photo_with_two_faces_is_no_duplicate(folders):
    points = "30,40,80,40,56,70,40,90,75,90"
    moved = "40,50,90,50,66,80,50,100,85,100"
    header = "path,identity,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"
    table = folders / "list.csv"
    table.write_text(f"{header}Ann/0.png,Ann,{points}\nAnn/0.png,Bob,{moved}\n")
    assert inspected(table)[1] == []
    table.write_text(f"{header}Ann/0.png,Ann,{points}\nAnn/0.png,Bob,{points}\nAnn/1.png,Bob,1,1,1,1,1,1,1,1,1,1\n")
    assert [kind for kind, *_ in inspected(table)[1]] == ["landmarks", "duplicate of another identity"]


def test_grey_images_in_a_set_of_colour_are_noted_and_no_fault(folders):
    grey = np.random.default_rng(0).integers(0, 256, (112, 112), dtype=np.uint8)
    (folders / "Cid" / "3.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    inspection, faults, notes = inspected(folders)
    assert faults == [] and inspection.found.is_grey_N.tolist() == [False, False, False, True]
    assert [finding.file for finding in notes.first] == [str(folders / "Cid" / "3.png")]
    for number, name in enumerate(["Ann/0.png", "Ann/1.png"]):  # most are grey: so is the set
        (folders / name).write_bytes(cv2.imencode(".png", grey + number + 1)[1].tobytes())
    inspection, faults, notes = inspected(folders)
    assert inspection.found.is_grey_N.sum() == 3 and len(faults) == len(notes) == 0


def test_one_coloured_pixel_makes_colour():
    image = np.full((32, 32, 3), 7, dtype=np.uint8)
    assert is_grey(image)
    image[5, 3, 2] = 8
    assert not is_grey(image)


def test_faults_of_a_verification_set(tmp_path):
    images = [png(number) for number in range(80)]
    is_same = [True, False] * 20
    images[3] = images[2]  # pair 1, of two people
    images[5] = images[4]  # pair 2, of one
    images[7] = b"no image"
    images[9] = png(9, (SIZE_PX, SIZE_PX + 2))
    images[12:14] = images[11], images[10]  # pair 6 is pair 5
    is_same[8:12] = [True] * 4
    write_pairs(tmp_path / "a.bin", images, is_same)
    inspection, faults, notes = inspected(tmp_path / "a.bin")
    assert [(kind, record) for kind, _, record, _ in faults] == [
        ("no image", "image 7"), ("size", "image 9"), ("equal pair", "pair 1"), ("equal pair", "pair 2"),
        ("fold of one kind", "pairs 8 .. 11"),
    ]  # fmt: skip
    assert "of one person, not of two" in faults[2][3] and "any model is right" in faults[3][3]
    assert "fold 3 of 10 has 4 of one person and 0 of two" in faults[4][3]
    assert notes.first[0].record == "pair 6" and "as pair 5" in notes.first[0].what
    assert [kind for kind, *_ in inspected(tmp_path / "a.bin", num_folds=5)[1]].count("fold of one kind") == 0
    assert inspection.items.kind == "a verification set, encoded"


def test_verification_set_with_lists_that_do_not_fit(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    images = [array, array + 1, png(0), 7.5, png(1)]
    (tmp_path / "a.bin").write_bytes(pickle.dumps((images, [True, 3])))
    inspection, faults, _ = inspected(tmp_path / "a.bin", num_folds=2)
    assert [(kind, record) for kind, _, record, _ in faults][:3] == [
        ("pair", ""), ("pair", "pair 1"), ("no image", "image 3"),
    ]  # fmt: skip
    assert inspection.found.is_sound_N.tolist() == [True, True, True, False, True]
    assert inspection.items.kind == "a verification set, arrays and encoded"
    np.testing.assert_array_equal(inspection.items.crop(0), array)


def test_equal_items_are_found_among_equal_halves():
    digests = np.array([[5, 1], [0, 0], [5, 2], [5, 1], [7, 1], [0, 0], [5, 2], [5, 1]], dtype=np.uint64)
    items, firsts = equal_items(digests)
    assert (items.tolist(), firsts.tolist()) == ([3, 6, 7], [0, 2, 0])
    assert [len(numbers) for numbers in equal_items(digests[:0])] == [0, 0]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_equal_items_are_those_that_a_dictionary_finds(values):
    first_of: dict[int, int] = {}
    expected = [(i, first_of.setdefault(v, i)) for i, v in enumerate(values) if v and first_of.setdefault(v, i) != i]
    digests = np.array([[v % 3 + (v > 0), v] for v in values], dtype=np.uint64).reshape(-1, 2)
    items, firsts = equal_items(digests)
    assert list(zip(items.tolist(), firsts.tolist(), strict=True)) == expected


def test_bins_of_the_histogram():
    assert num_images_bins(np.array([1, 1, 2, 3, 4, 7, 8, 1024])) == [
        (1, 1, 2), (2, 3, 2), (4, 7, 2), (8, 15, 1), *[(1 << b, (2 << b) - 1, 0) for b in range(4, 10)],
        (1024, 2047, 1),
    ]  # fmt: skip
    assert num_images_bins(np.array([], dtype=np.int64)) == []


def test_sample_has_one_row_for_each_identity_and_follows_the_seed():
    per_identity = (3, 2, 1, 2)
    labels, is_sound = np.repeat(np.arange(4), per_identity), np.ones(8, dtype=bool)
    found = Survey(
        labels_N=labels, digests_N2=np.zeros((8, 2)), is_image_N=is_sound, is_sound_N=is_sound, is_grey_N=~is_sound,
        num_of_size=Counter(),
    )  # fmt: skip
    rows = list(sampled_rows(found, num_identities=3, images_per_identity=2, seed=1))
    assert len(rows) == 3 and [label for label, _ in rows] == sorted({label for label, _ in rows})
    for label, items in rows:
        assert (found.labels_N[items] == label).all()
        assert len(set(items.tolist())) == len(items) == min(2, per_identity[label])
    again = list(sampled_rows(found, num_identities=3, images_per_identity=2, seed=1))
    assert [items.tolist() for _, items in again] == [items.tolist() for _, items in rows]
    draws = {str(list(sampled_rows(found, num_identities=2, images_per_identity=1, seed=s))) for s in range(8)}
    assert len(draws) > 1


@pytest.mark.parametrize(("num_identities", "expected_singles"), [(2, 0), (3, 0), (5, 2)])
def test_sample_prefers_identities_with_several_sound_images(num_identities, expected_singles):
    labels = np.repeat(np.arange(20), [2, *[1] * 16, 2, 3, 2])
    is_sound = np.ones(len(labels), dtype=bool)
    is_sound[-1] = False  # of the last identity one sound image is left
    found = Survey(
        labels_N=labels, digests_N2=np.zeros((len(labels), 2)), is_image_N=is_sound, is_sound_N=is_sound,
        is_grey_N=~is_sound, num_of_size=Counter(),
    )  # fmt: skip
    for seed in range(4):
        rows = list(sampled_rows(found, num_identities=num_identities, images_per_identity=4, seed=seed))
        assert len(rows) == num_identities and sum(len(items) == 1 for _, items in rows) == expected_singles


def test_findings_are_written_as_they_come_and_only_the_first_are_kept(tmp_path):
    findings = Findings()
    with findings.written_to(tmp_path / "faults.csv"):
        for number in range(30):
            findings.add("odd" if number % 3 else "even", "a, b.rec", f"record {number}", 'says "no"')
    lines = (tmp_path / "faults.csv").read_text().splitlines()
    assert lines[:2] == ["kind,file,record,what", 'even,"a, b.rec",record 0,"says ""no"""'] and len(lines) == 31
    assert (len(findings), findings.counts["even"], len(findings.first)) == (30, 10, 6)
    assert str(findings.first[1]) == 'a, b.rec, record 1: says "no"'
    with pytest.raises(KeyboardInterrupt), findings.written_to(tmp_path / "faults.csv"):
        raise KeyboardInterrupt
    assert len((tmp_path / "faults.csv").read_text().splitlines()) == 31  # as it was
    assert [path.name for path in tmp_path.iterdir()] == ["faults.csv"]


def test_names_that_differ_in_case_unicode_form_or_spaces_alone_are_noted(tmp_path):
    for number, name in enumerate(["Ann", "ann", "Bob", "Bob ", "Jos\u00e9", "Jose\u0301", "Zoe"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(number, (112, 112)))
    _, faults, notes = inspected(tmp_path)
    assert faults == []
    assert [(finding.kind, finding.record, finding.what.split(";")[0]) for finding in notes.first] == [
        ("similar name", "identity 'Bob '", "its name differs from 'Bob' only in spaces"),
        ("similar name", "identity 'Jos\\xe9'", "its name differs from 'Jose\\u0301' only in Unicode form"),
        ("similar name", "identity 'ann'", "its name differs from 'Ann' only in case"),
    ]
