"""Several sets are one: every sample keeps its image, and labels say who is who, whether names are merged or not."""

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.core.errors import ConfigError, DataError
from facerec.data.packing import pack_training_set
from facerec.data.records.recordio import write_record_set
from facerec.data.sources import open_source
from facerec.data.sources.joined_source import JoinedSource

SETS = {"a": ["Ann/0", "Ann/1", "Bob/2"], "b": ["Ann/3", "Cid/4"], "c": ["Bob/5", "Cid/6", "Dan/7"]}


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    return cv2.imencode(".png", pixels(seed)[:, :, ::-1])[1].tobytes()


@pytest.fixture
def roots(tmp_path) -> list[str]:
    """Folders, a packed set and a table; image n has the pixels of seed n."""
    for root, names in SETS.items():
        for name in names:
            path = tmp_path / root / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(int(name[-1])))
    source = open_source(str(tmp_path / "b"))
    pack_training_set(source, tmp_path / "packed", samples=np.arange(2), num_threads=1)
    lines = [f"{name}.png,{name.partition('/')[0]}" for name in SETS["c"]]
    (tmp_path / "c" / "list.csv").write_text("\n".join(["path,identity", *lines]))
    return [str(tmp_path / "a"), str(tmp_path / "packed"), str(tmp_path / "c" / "list.csv")]


def joined(roots: list[str], merge: str = "none") -> JoinedSource:
    source = open_source(roots, merge)  # type: ignore[arg-type]
    assert isinstance(source, JoinedSource)
    return source


def test_identities_are_kept_apart(roots):
    source = joined(roots)
    assert source.identities == [
        "a/Ann", "a/Bob", "packed/Ann", "packed/Cid", "list/Bob", "list/Cid", "list/Dan",
    ]  # fmt: skip
    assert source.labels.tolist() == [0, 0, 1, 2, 3, 4, 5, 6] and source.labels.dtype == np.int64
    assert (len(source), source.num_classes, source.has_names) == (8, 7, False)


def test_identities_of_one_name_are_one(roots):
    source = joined(roots, "by_name")
    assert source.identities == ["Ann", "Bob", "Cid", "Dan"] and source.has_names
    assert source.labels.tolist() == [0, 0, 1, 0, 2, 1, 2, 3]
    assert source.num_classes == 4


@pytest.mark.parametrize("merge", ["none", "by_name"])
def test_every_sample_is_that_of_its_set(merge, roots):
    source = joined(roots, merge)
    for index in range(8):
        np.testing.assert_array_equal(source.image(index), pixels(index))
        assert source.encoded(index) == png(index)
    assert [Path(source.name(index)).stem[0] for index in (0, 2, 5, 7)] == ["0", "2", "5", "7"]
    assert "packed/train.rec, record 2" in source.name(4)
    for index in (8, -9):
        with pytest.raises(IndexError):
            source.image(index)
    np.testing.assert_array_equal(source.image(-1), pixels(7))


def test_sets_with_one_name_are_numbered(roots, tmp_path):
    shutil.copytree(tmp_path / "a", tmp_path / "other" / "a")
    assert joined([roots[0], str(tmp_path / "other" / "a")]).identities == ["1/Ann", "1/Bob", "2/Ann", "2/Bob"]


def test_pickled_source_is_small_and_works(roots):
    source = joined(roots, "by_name")
    unused = len(pickle.dumps(source))
    labels = source.labels
    content = pickle.dumps(source)
    assert len(content) == unused < 1500
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.image(6), pixels(6))
    np.testing.assert_array_equal(again.labels, labels)


def test_fingerprint_follows_the_sets_their_order_and_the_names(roots, tmp_path):
    before = {merge: joined(roots, merge).fingerprint() for merge in ("none", "by_name")}
    assert before["none"] != before["by_name"]
    assert joined(roots, "by_name").fingerprint() == before["by_name"]
    assert joined(roots[::-1], "by_name").fingerprint() != before["by_name"]
    names = tmp_path / "packed" / "identities.csv"  # of which the fingerprint of the packed set knows nothing
    names.write_text(names.read_text().replace("Cid", "Bob"))
    assert joined(roots, "by_name").fingerprint() != before["by_name"]
    assert joined(roots).fingerprint() == before["none"]


def test_benchmarks_are_those_of_all_and_equal_ones_come_once(roots, tmp_path):
    (tmp_path / "a" / "lfw.bin").write_bytes(b"one")
    (tmp_path / "packed" / "lfw.bin").write_bytes(b"one")
    (tmp_path / "c" / "lfw.bin").write_bytes(b"another")
    (tmp_path / "packed" / "agedb_30.bin").write_bytes(b"one")
    assert joined(roots).benchmarks() == [
        tmp_path / "packed" / "agedb_30.bin", tmp_path / "a" / "lfw.bin", tmp_path / "c" / "lfw.bin",
    ]  # fmt: skip


def test_what_will_be_read_is_told_to_the_set_that_has_it(roots, monkeypatch):
    source = joined(roots)
    told = []
    monkeypatch.setattr(type(source.parts[1]), "will_read", lambda self, indices: told.append(indices.tolist()))
    source.will_read(np.array([0, 4, 2, 7, 3]))
    assert told == [[1, 0]]
    source.will_read(np.array([0, 1]))
    assert len(told) == 1


def test_constructor_opens_nothing(roots, tmp_path):
    source = joined([roots[0], roots[2]])
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataError, match="a: cannot be listed"):
        len(source)


def test_sets_that_cannot_be_joined_are_named(roots, tmp_path):
    with pytest.raises(DataError, match="a occurs twice"):
        joined([roots[0], roots[1], f"{tmp_path}/packed/../a"])
    for few in ([], roots[:1]):
        with pytest.raises(DataError, match="expected two or more sets, or one set without brackets"):
            joined(few)
    with pytest.raises(ConfigError, match=r"data\.merge=by_name is for several sets"):
        open_source(roots[0], "by_name")
    (tmp_path / "packed" / "identities.csv").unlink()
    with pytest.raises(DataError, match=r"by_name: .*packed has numbers for names"):
        len(joined(roots, "by_name"))
    assert joined(roots).identities[2:4] == ["packed/0", "packed/1"]
    write_record_set(tmp_path / "small", [[b"image"]], height_px=96, width_px=96)
    with pytest.raises(DataError, match=r"several sizes .* of 112 x 112, .*small of 96 x 96 .*input\.height_px=96"):
        len(joined([roots[0], str(tmp_path / "small")]))
    assert open_source([roots[0], str(tmp_path / "small")], height_px=96, width_px=96).size_px == (96, 96)


def test_joined_sets_are_packed_into_one(roots, tmp_path):
    source = joined(roots, "by_name")
    pack_training_set(source, tmp_path / "all", samples=np.arange(8), num_threads=2)
    packed = open_source(str(tmp_path / "all"))
    assert packed.identities == ["Ann", "Bob", "Cid", "Dan"]
    assert packed.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    for index, seed in enumerate([0, 1, 3, 2, 5, 4, 6, 7]):
        np.testing.assert_array_equal(packed.image(index), pixels(seed))
