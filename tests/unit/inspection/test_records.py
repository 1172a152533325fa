"""An inspection of record files finds what was planted, where it lies, and nothing in a set that is right."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.core.errors import DataError
from facerec.data.records.record_index import RecordIndex
from facerec.data.records.recordio import RecordReader, frame, pack, write_record_set
from facerec.data.sources import open_source
from facerec.inspection.identity_records import _check_against_labels, _check_contiguous
from tests.unit.inspection.inspections import SIZE_PX, Kept, inspected, png

PER_IDENTITY = (3, 2, 1, 2)  # images: rows 1 .. 8, then four identity records


@pytest.fixture
def records(tmp_path) -> Path:
    seeds = iter(range(100))
    write_record_set(
        tmp_path / "set", [[png(next(seeds)) for _ in range(n)] for n in PER_IDENTITY], height_px=SIZE_PX,
        width_px=SIZE_PX,
    )  # fmt: skip
    return tmp_path / "set"


def rewrite(root: Path, change: Callable[[int, bytes], bytes | None]) -> None:
    """Writes the records anew, each as `change(key, payload)` makes it; None leaves it out of the index."""
    reader = RecordReader(rec=root / "train.rec", idx=root / "train.idx")
    payloads = [reader.read(row) for row in range(len(reader))]
    offset = 0
    with open(root / "new.rec", "wb") as rec, open(root / "new.idx", "w") as idx:
        for key, payload in enumerate(payloads):
            changed = change(key, payload)
            if changed is not None:
                idx.write(f"{key}\t{offset}\n")
            offset += rec.write(frame(payload if changed is None else changed))
    (root / "new.rec").replace(root / "train.rec")
    (root / "new.idx").replace(root / "train.idx")


def test_property_of_another_size_than_the_keys_is_one_fault_and_images_are_held_to_the_keys(records):
    inspection, faults, _ = inspected(records, height_px=24, width_px=20)
    (kind, file, record, what), *sizes = faults
    assert (kind, file, record) == ("property", "property", "")
    assert what.startswith("says that the crops are 24 x 24 pixels; expected 24 x 20 (input.height_px=24 input.width")
    assert [fault[0] for fault in sizes] == ["size"] * 8 and inspection.fingerprint is None
    assert inspection.found.other_sizes((24, 20)) == [((24, 24), 8)]


def changed(**changes: bytes) -> Callable[[int, bytes], bytes | None]:
    """For `rewrite`: k3=b"..." is what record 3 becomes."""
    return lambda key, payload: changes.get(f"k{key}", payload)


def byte_of(root: Path, row: int) -> int:
    return int(RecordReader(rec=root / "train.rec", idx=root / "train.idx").offsets[row])


def test_property_of_another_size_is_one_fault_and_the_images_are_right(records):
    (records / "property").write_text("4,112,96")
    inspection, faults, _ = inspected(records)
    assert faults == [(
        "property", "property", "",
        f"says that the images are 112 x 96 pixels, but they are {SIZE_PX} x {SIZE_PX}; correct it to "
        f"4,{SIZE_PX},{SIZE_PX}",
    )]  # fmt: skip
    assert inspection.found.is_sound_N.all()


def test_right_set_has_no_fault(records):
    inspection, faults, notes = inspected(records)
    assert (faults, len(notes)) == ([], 0)
    assert inspection.items.kind == "record files, InsightFace layout"
    labels, counts = inspection.found.identities()
    assert (labels.tolist(), counts.tolist()) == ([0, 1, 2, 3], list(PER_IDENTITY))
    assert inspection.found.is_sound_N.all() and not inspection.found.is_grey_N.any()
    assert inspection.fingerprint == open_source(str(records)).fingerprint()
    np.testing.assert_array_equal(inspection.items.crop(4), open_source(str(records)).image(4))


def test_every_fault_of_the_images_is_found_and_none_ends_the_pass(records):
    rewrite(records, changed(
        k1=pack(0.0, id=1, image=b"no image"),
        k4=pack(1.0, id=4, image=png(0, (SIZE_PX, 20))),
        k5=pack(1.0, id=5, image=png(1)),  # the bytes of record 2, of identity 0
        k6=pack(2.0, id=6, image=b""),
        k8=pack(3.0, id=8, image=png(6)),  # the bytes of record 7
    ))  # fmt: skip
    content = bytearray((records / "train.rec").read_bytes())
    damaged = byte_of(records, 3)
    content[damaged] ^= 1
    (records / "train.rec").write_bytes(content)
    inspection, faults, _ = inspected(records)
    at = {row: f"record {row} (byte {byte_of(records, row)})" for row in range(1, 9)}
    assert faults == [
        ("no image", "train.rec", at[1], "8 bytes that do not decode as an image; the image is damaged, or of a format "
         "that OpenCV does not read"),
        ("damaged record", "train.rec", at[3], f"no record begins at byte {damaged}. The file is damaged, or train.idx "
         "belongs to another one: copy both again"),
        ("size", "train.rec", at[4], "the image is 24 x 20 pixels; expected 24 x 24. If it is an aligned crop, set "
         "input.height_px=24 input.width_px=20; if it is a photo, align it first"),
        ("no image", "train.rec", at[6], "0 bytes that do not decode as an image; the image is damaged, or of a format "
         "that OpenCV does not read"),
        ("duplicate of another identity", "train.rec", at[5],
         f"the same bytes as {at[2]}, but this is identity 1 and that is identity 0"),
        ("duplicate", "train.rec", at[8], f"the same bytes as {at[7]}"),
        ("empty identity", "train.rec", "identity 2", "its only image cannot be used"),
    ]  # fmt: skip
    assert inspection.found.is_sound_N.tolist() == [False, True, False, False, True, False, True, True]
    assert inspection.fingerprint == open_source(str(records)).fingerprint()  # training can skip all that


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed(k6=pack(1.5, id=6, image=png(5))), [("label", 6), ("missing label", 2)]),
        (changed(k6=pack(-2.0, id=6, image=png(5))), [("label", 6), ("missing label", 2)]),
        (changed(k6=pack(1e15, id=6, image=png(5))), [("label", 6), ("missing label", 2)]),
        (changed(k4=pack(3.0, id=4, image=png(3))), [("label", 7), ("identity record", 10)]),
        (changed(k6=pack(2.0, id=7, image=png(5))), [("index", 6)]),
        (changed(k9=pack((1.0, 3.0), id=9)), [("identity record", 10), ("identity record", 9)]),
        (changed(k12=pack((7.0, 8.0), id=12)), [("identity record", 12), ("identity record", 12)]),
        (changed(k11=pack((6.0, 6.0), id=11)), [("empty identity", 11)]),
        (changed(k11=pack((6.0, 90.0), id=11)), [("identity record", 11)]),
        (changed(k11=pack(6.0, id=11)), [("identity record", 11)]),
        (changed(k0=pack((9.0, 14.0), id=0, id2=1)), [("header", 0)]),
        (changed(k0=pack((8.0, 13.0), id=0, id2=1)), [("header", 0)]),
        (changed(k0=pack((1.0, 2.0, 3.0), id=0, id2=1)), [("header", 0)]),
        (lambda key, payload: None if key == 5 else payload, [("header", 0), ("index", 4), ("index", "key 5")]),
        (lambda key, payload: None if key == 0 else payload, [("index", None), ("index", "key 0")]),
    ],
)
def test_labels_identity_records_and_index_are_held_against_each_other(change, expected, records):
    rewrite(records, change)
    _, faults, _ = inspected(records)
    found: list[tuple[str, int | str | None]] = [
        (kind, int(record.split()[1]) if record.startswith(("record", "label ")) else record or None)
        for kind, _, record, _ in faults
    ]
    assert found == expected, faults


def test_file_that_is_cut_short_says_once_how_much_is_lost_and_keeps_the_rest(records):
    at = {row: byte_of(records, row) for row in (6, 7)}
    kept = at[6] + 30
    (records / "train.rec").write_bytes((records / "train.rec").read_bytes()[:kept])
    inspection, faults, _ = inspected(records)
    assert [(kind, record) for kind, _, record, _ in faults[:2]] == [
        ("cut short", f"record 7 (byte {at[7]})"), ("damaged record", f"record 6 (byte {at[6]})"),
    ]  # fmt: skip
    assert faults[0][3].startswith(f"it and 5 more begin past the end of the file, which has {kept} bytes")
    assert faults[1][3].startswith("it ends at byte ")
    assert [(kind, record) for kind, _, record, _ in faults[2:]] == [("missing label", "labels 2 .. 3")]
    assert inspection.found.is_sound_N.tolist() == [True] * 5 + [False] * 3
    assert inspection.found.labels_N.tolist() == [0, 0, 0, 1, 1, -1, -1, -1]


def test_bytes_and_records_that_the_index_does_not_name_once(records):
    lines = (records / "train.idx").read_text().splitlines()
    lines[7] = f"7\t{lines[6].split()[1]}"  # record 7 is nowhere, record 6 twice
    (records / "train.idx").write_text(
        "\n".join([*lines[:3], "three\t4", *lines[3:], f"14\t{10**20}", lines[2], "14\t-1"]) + "\n"
    )
    (records / "train.rec").write_bytes((records / "train.rec").read_bytes() + b"more")
    _, faults, _ = inspected(records)
    index = [(file, record, what) for kind, file, record, what in faults if kind == "index"]
    sizes = {row: byte_of_line(lines, row) for row in (7, 8)}
    assert ("train.idx", "line 4", "is b'three\\t4\\n'; expected two numbers, key and offset") in index
    assert ("train.idx", "line 17", "is b'14\\t-1\\n'; expected two numbers, key and offset") in index
    assert ("train.idx", "line 15") in [place[:2] for place in index]
    assert "key 13" not in [place for _, place, _ in index]  # which would be missing if line 15 had left its key
    assert ("train.idx", "key 2", "occurs twice; the first line is used, but either may be wrong") in index
    assert ("train.idx", "key 7", "begins at the same byte as that of key 6") in index
    assert any("train.idx has no line for the bytes" in what and f".. {sizes[8] - 1}" in what for *_, what in index)
    assert ("record 7", "the record at this place has the number 6") in [(r.split(" (")[0], w) for _, r, w in index]


def byte_of_line(lines: list[str], row: int) -> int:
    return int(lines[row].split()[1])


def test_identity_that_lies_in_two_places_is_named(records):
    rewrite(records, changed(k8=pack(0.0, id=8, image=png(7))))
    _, faults, _ = inspected(records)
    assert [what for kind, _, _, what in faults if kind == "label"] == [
        "the label 0 again, after images of others; those of an identity must be consecutive"
    ]
    assert [what for kind, _, _, what in faults if kind == "identity record"] == [
        "gives the keys 7 .. 8; the images there have the labels 0, 3"
    ]


def test_ranges_beyond_2_to_the_24_may_be_rounded():
    """Identity records can only say 2^24 of the key 2^24 + 1; that is no fault, and another number is."""

    class Reader:
        """Keys as in a large file, without the file."""

        rec = "train.rec"
        start = (1 << 24) - 3

        @property
        def index(self):
            return self

        def key(self, row: int) -> int:
            return self.start + row

        def keys_of(self, rows: np.ndarray) -> np.ndarray:
            return self.start + rows

        def row_from(self, key: int) -> int:
            return min(max(key - self.start, 0), 10)

        def place(self, row: int) -> str:
            return f"record {row}"

    labels = np.repeat(np.arange(3, dtype=np.float32), [4, 2, 4])  # keys 2^24 - 3 .. + 6; limits at 2^24 + 1, + 3
    keys = [(1 << 24) - 3, (1 << 24) + 1, (1 << 24) + 3, (1 << 24) + 7]
    ranges = np.array(list(pairwise(keys)), dtype=np.float32)
    assert ranges[1].tolist() == [1 << 24, (1 << 24) + 4]  # not what the keys are
    for shift, wrong in ((0, []), (4, ["record 20"])):
        shifted = ranges.copy()
        shifted[0, 1] += shift
        faults = Kept()
        _check_against_labels(Reader(), np.array([20, 21, 22]), shifted, labels, 0, faults)  # type: ignore[arg-type]
        assert [fault.record for fault in faults.all] == wrong


@given(runs=st.lists(st.integers(1, 4), min_size=1, max_size=8), lost=st.sets(st.integers(0, 31)))
def test_identity_records_of_a_right_file_are_right_whatever_cannot_be_read(runs, lost):
    num_images, bounds = sum(runs), np.append(1, 1 + np.cumsum(runs))
    index = RecordIndex(offsets=np.arange(1 + num_images + len(runs)), keys=None, first_key=0, last_row=0)

    class Reader:
        """The index alone."""

        rec = "train.rec"

        def __init__(self) -> None:
            self.index = index

        def __len__(self) -> int:
            return len(index)

        def key(self, row: int) -> int:
            return index.key(row)

        def place(self, row: int) -> str:
            return f"record {row}"

    labels = np.repeat(np.arange(len(runs), dtype=np.float32), runs)
    labels[[row for row in lost if row < num_images]] = np.nan
    ranges = np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.float32)
    rows, faults = 1 + num_images + np.arange(len(runs)), Kept()
    _check_against_labels(Reader(), rows, ranges, labels, 1, faults)  # type: ignore[arg-type]
    _check_contiguous(Reader(), rows, ranges, 1 + num_images, faults)  # type: ignore[arg-type]
    assert faults.all == []


def test_im2rec_layout(tmp_path):
    offset = 0
    with open(tmp_path / "train.rec", "wb") as rec, open(tmp_path / "train.idx", "w") as idx:
        for key, (label, size) in enumerate([(0, 112), (3, 112), (3, 90), (0, 112)]):
            idx.write(f"{key}\t{offset}\n")
            offset += rec.write(frame(pack(float(label), id=77, image=png(key, (size, size)))))
    inspection, faults, _ = inspected(tmp_path)
    assert inspection.items.kind == "record files, im2rec layout"
    assert [(kind, record.split(" (")[0]) for kind, _, record, _ in faults] == [
        ("size", "record 2"), ("missing label", "labels 1 .. 2"),
    ]  # fmt: skip
    (tmp_path / "property").write_text("five")
    assert [kind for kind, *_ in inspected(tmp_path)[1]] == ["property", "size", "missing label"]
    (tmp_path / "property").write_text("4,112,96")  # images of two sizes: it may be right
    assert [kind for kind, *_ in inspected(tmp_path)[1]] == ["size"] * 4 + ["missing label"]
    (tmp_path / "property").write_text("5,112,112")
    assert [record for kind, _, record, _ in inspected(tmp_path)[1] if kind == "missing label"] == [
        "labels 1 .. 2", "label 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "train.idx").unlink(), r"train\.idx: cannot be opened"),
        (lambda root: (root / "train.idx").write_text("no\nindex\n"), "no line in it has two numbers"),
        (lambda root: (root / "train.idx").write_text(""), "no line in it has two numbers"),
        (lambda root: shutil.rmtree(root), "there is no such folder"),
    ],
)
def test_what_cannot_be_opened_at_all_is_an_error(damage, message, records):
    damage(records)
    with pytest.raises(DataError, match=message):
        inspected(records)


def test_real_set(real_data):
    """The duplicates are in the photos as they were collected: some under two names."""
    inspection, faults, _ = inspected(real_data / "celeba_wild")
    kinds = [kind for kind, *_ in faults]
    assert (kinds.count("duplicate"), kinds.count("duplicate of another identity"), len(kinds)) == (2, 9, 11)
    assert len(inspection.items) == 6264 and inspection.found.is_sound_N.all()
