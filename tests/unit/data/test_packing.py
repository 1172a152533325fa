"""What is packed comes back to the byte, from folders, tables and packed sets."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.core.errors import DataError
from facerec.data.packing import pack_pairs, pack_training_set, readable_samples, write_rejected
from facerec.data.records.recordio import RecordReader, frame, pack, unpack, write_record_set
from facerec.data.sources import RecordSource, open_source
from facerec.data.verification_file import read_pairs


def png(seed: int, size: tuple[int, int] = (112, 112)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture
def folders(tmp_path) -> Path:
    for number in range(10):
        path = tmp_path / "faces" / "ABC"[min(number // 4, 2)] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return tmp_path / "faces"


def test_files_come_back_to_the_byte_and_identities_are_numbered_anew(folders, tmp_path):
    source = open_source(str(folders))
    samples = np.array([9, 0, 3, 8, 1])  # none of B
    pack_training_set(source, tmp_path / "set", samples=samples, num_threads=3)
    packed = open_source(str(tmp_path / "set"))
    assert isinstance(packed, RecordSource) and (tmp_path / "set" / "property").read_text() == "2,112,112\n"
    assert packed.labels.tolist() == [0, 0, 0, 1, 1]
    expected = [0, 3, 1, 9, 8]  # in the order given, within an identity
    assert [packed.encoded(index) for index in range(5)] == [source.encoded(index) for index in expected]
    lines = [f"1\t{source.name(index)}\t{int(index > 7)}" for index in expected]
    assert (tmp_path / "set" / "train.lst").read_text().splitlines() == lines
    assert (tmp_path / "set" / "identities.csv").read_text() == "label,identity,num_images\n0,A,3\n1,C,2\n"
    reader = RecordReader(rec=tmp_path / "set" / "train.rec", idx=tmp_path / "set" / "train.idx")
    assert reader.record(0).labels.tolist() == [6, 8] and reader.record(7).labels.tolist() == [4, 6]


def test_packed_set_packs_to_the_same_files(folders, tmp_path):
    pack_training_set(open_source(str(folders)), tmp_path / "a", samples=np.arange(10), num_threads=1)
    pack_training_set(open_source(str(tmp_path / "a")), tmp_path / "b", samples=np.arange(10), num_threads=4)
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_real_set_packs_to_the_same_files(real_data, tmp_path):
    source = open_source(str(real_data / "celeba_wild"))
    pack_training_set(source, tmp_path / "set", samples=np.arange(len(source)), num_threads=2)
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "set" / name).read_bytes() == (real_data / "celeba_wild" / name).read_bytes(), name


def test_record_file_appears_when_all_else_is_there(folders, tmp_path, monkeypatch):
    appeared, replace = [], os.replace

    def noted(source, target):
        appeared.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    source, val_pairs = open_source(str(folders)), (np.array([[8, 9], [0, 8]]), np.array([True, False]))
    pack_training_set(source, tmp_path / "set", samples=np.arange(8), num_threads=1, val_pairs=val_pairs)
    assert appeared[-1] == "train.rec"
    assert set(appeared[:-1]) == {"train.idx", "property", "train.lst", "identities.csv", "val.bin"}
    assert read_pairs(tmp_path / "set" / "val.bin").images[2:] == [source.encoded(0), source.encoded(8)]


@pytest.mark.parametrize("layout", ["insightface", "im2rec"])
def test_labels_that_begin_at_1_and_have_gaps_are_numbered_anew_where_asked(layout, tmp_path):
    write_record_set(tmp_path / "set", [[png(0), png(1)], [png(2)], [png(3)]], layout=layout)
    reader, odd = RecordReader(rec=tmp_path / "set" / "train.rec", idx=tmp_path / "set" / "train.idx"), [1, 2, 7]
    payloads = [reader.read(row) for row in range(len(reader))]
    with open(tmp_path / "set" / "train.rec", "wb") as rec:
        for payload in payloads:
            record = unpack(payload)
            rec.write(
                frame(
                    pack(float(odd[int(record.labels[0])]), id=record.id, image=record.image)
                    if record.image
                    else payload
                )
            )
    with pytest.raises(DataError, match=r"labels begin at 1; .* facerec pack"):
        _ = open_source(str(tmp_path / "set")).labels
    source = open_source(str(tmp_path / "set"), renumber=True)
    assert (source.labels.tolist(), source.num_classes, source.has_names) == ([0, 0, 1, 2], 3, False)
    assert source.notes() == [f"{tmp_path}/set/train.rec: its labels, 1 to 7, are renumbered, 0 to 2"]
    pack_training_set(source, tmp_path / "new", samples=np.arange(4), num_threads=1)
    new = open_source(str(tmp_path / "new"))
    assert (new.labels.tolist(), new.identities) == ([0, 0, 1, 2], ["1", "2", "7"])
    assert [new.encoded(index) for index in range(4)] == [png(number) for number in range(4)]


def test_right_labels_are_not_numbered_anew(folders, tmp_path):
    pack_training_set(open_source(str(folders)), tmp_path / "set", samples=np.arange(10), num_threads=1)
    source = open_source(str(tmp_path / "set"), renumber=True)
    assert (source.notes(), source.identities) == ([], ["A", "B", "C"])


def test_pairs_come_back_in_their_order(folders, tmp_path):
    source = open_source(str(folders))
    pairs, is_same = np.array([[0, 1], [9, 0], [4, 5]]), np.array([True, False, True])
    pack_pairs(source, tmp_path / "val.bin", pairs=pairs, is_same=is_same, num_threads=2)
    found = read_pairs(tmp_path / "val.bin")
    assert found.images == [source.encoded(index) for index in (0, 1, 9, 0, 4, 5)]
    assert found.is_same.tolist() == [True, False, True]
    with pytest.raises(DataError, match=r"val\.bin already exists"):
        pack_pairs(source, tmp_path / "val.bin", pairs=pairs, is_same=is_same, num_threads=2)


def test_what_is_no_crop_is_an_error_or_found_beforehand(folders, tmp_path):
    (folders / "A" / "1.png").write_bytes(b"no image")
    (folders / "B" / "5.png").write_bytes(png(5, (100, 112)))
    source = open_source(str(folders))
    with pytest.raises(DataError, match=r"A/1\.png: 8 bytes that do not decode"):
        pack_training_set(source, tmp_path / "set", samples=np.arange(10), num_threads=2)
    assert list((tmp_path / "set").iterdir()) == []
    samples, rejected = readable_samples(source, num_threads=2)
    assert samples.tolist() == [0, 2, 3, 4, 6, 7, 8, 9]
    assert [name for name, _ in rejected] == [str(folders / "A" / "1.png"), str(folders / "B" / "5.png")]
    assert "100 x 112" in rejected[1][1]
    write_rejected(tmp_path / "rejected.csv", rejected)
    assert (tmp_path / "rejected.csv").read_text().splitlines()[1].startswith(f"{folders}/A/1.png,")
    pack_training_set(source, tmp_path / "set", samples=samples, num_threads=2)
    with pytest.raises(DataError, match=r"train\.rec already exists"):
        pack_training_set(source, tmp_path / "set", samples=samples, num_threads=2)
    assert len((tmp_path / "set" / "train.lst").read_text().splitlines()) == 8
