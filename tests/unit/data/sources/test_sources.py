"""Record files of both layouts and folders give the same samples, and what is wrong with a set is named."""

import pickle
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.core.errors import ConfigError, DataError
from facerec.data.records.record_index import RecordIndex
from facerec.data.records.recordio import frame, pack, write_record_set
from facerec.data.sources import FolderSource, RecordSource, open_source


def _pixels(seed: int, size: tuple[int, int] = (112, 112)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def _png(seed: int, size: tuple[int, int] = (112, 112)) -> bytes:
    return cv2.imencode(".png", _pixels(seed, size)[:, :, ::-1])[1].tobytes()


def _write_records(root: Path, payloads: list[bytes], described: str | None = None) -> RecordSource:
    """A record file with the keys 0, 1, …, as im2rec writes it."""
    root.mkdir(exist_ok=True)
    offset = 0
    with open(root / "train.rec", "wb") as rec, open(root / "train.idx", "w") as idx:
        for key, payload in enumerate(payloads):
            idx.write(f"{key}\t{offset}\n")
            offset += rec.write(frame(payload))
    if described:
        (root / "property").write_text(described)
    return RecordSource(root=str(root))


def _write_folders(root: Path) -> None:
    for identity, seeds in (("Bob", [2, 3]), ("Ann", [0, 1])):
        (root / identity).mkdir(parents=True)
        for seed in seeds:
            (root / identity / f"{seed}.{'PNG' if seed else 'png'}").write_bytes(_png(seed))


def _assert_holds_ann_and_bob(source: RecordSource | FolderSource) -> None:
    assert (len(source), source.num_classes) == (4, 2)
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0, 0, 1, 1]
    for index in range(4):
        image = source.image(index)
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, _pixels(index))
    with pytest.raises(IndexError):
        source.image(4)


def test_insightface_layout_im2rec_layout_and_folders_hold_the_same_samples(tmp_path: Path) -> None:
    write_record_set(tmp_path / "insightface", [[_png(0), _png(1)], [_png(2), _png(3)]])
    _assert_holds_ann_and_bob(open_source(str(tmp_path / "insightface")))
    payloads = [pack(float(i // 2), id=i, image=_png(i)) for i in range(4)]
    _assert_holds_ann_and_bob(_write_records(tmp_path / "im2rec", payloads))
    payloads = [pack((float(i // 2), 0.5), id=i, image=_png(i)) for i in range(4)]
    _assert_holds_ann_and_bob(_write_records(tmp_path / "label arrays", payloads, "2,112,112"))
    _write_folders(tmp_path / "folders")
    (tmp_path / "folders" / ".cache").mkdir()
    (tmp_path / "folders" / "notes.txt").write_text("passed over")
    (tmp_path / "folders" / "Ann" / "notes.txt").write_text("passed over")
    _assert_holds_ann_and_bob(open_source(str(tmp_path / "folders")))


def test_images_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((112, 112, 3), dtype=np.uint8)
    red[..., 2] = 255  # OpenCV's order
    write_record_set(tmp_path, [[cv2.imencode(".jpg", red)[1].tobytes()]])
    np.testing.assert_allclose(RecordSource(root=str(tmp_path)).image(0)[50, 50], [255, 0, 0], atol=3)


def test_samples_are_named(tmp_path: Path) -> None:
    write_record_set(tmp_path / "records", [[_png(0)], [_png(1)]])
    assert RecordSource(root=str(tmp_path / "records")).name(1).startswith(f"{tmp_path}/records/train.rec, record 2 (")
    _write_folders(tmp_path / "folders")
    assert FolderSource(root=str(tmp_path / "folders")).name(2) == f"{tmp_path}/folders/Bob/2.PNG"


def test_benchmarks_are_the_bin_files_beside_the_set(tmp_path: Path) -> None:
    _write_folders(tmp_path)
    for name in ("lfw.bin", "agedb_30.bin", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in FolderSource(root=str(tmp_path)).benchmarks()] == ["agedb_30.bin", "lfw.bin"]
    assert [path.name for path in RecordSource(root=str(tmp_path)).benchmarks()] == ["agedb_30.bin", "lfw.bin"]


def test_constructors_open_nothing_and_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    RecordSource(root="/nowhere")
    FolderSource(root="/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    _write_folders(tmp_path / "faces")
    assert len(open_source("~/faces")) == 4
    write_record_set(tmp_path / "records", [[_png(0)]])
    assert len(open_source("~/records")) == 1


def test_pickled_source_is_small_and_works(tmp_path: Path) -> None:
    write_record_set(tmp_path / "records", [[_png(i % 3)] * 20 for i in range(50)])
    source = RecordSource(root=str(tmp_path / "records"))
    assert source.num_classes == 50
    content = pickle.dumps(source)
    assert len(content) < 2000
    np.testing.assert_array_equal(pickle.loads(content).image(25), _pixels(1))
    _write_folders(tmp_path / "folders")
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(open_source(str(tmp_path / "folders")))).image(3), _pixels(3)
    )


def test_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    identities = [[_png(0), _png(1)], [_png(2)]]
    write_record_set(tmp_path / "a", identities)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_record_set(tmp_path / "longer", [*identities, [_png(3)]])
    # The same bytes with one label changed: neither the index nor the file's size differs.
    _write_records(tmp_path / "c", [pack(float(label), id=0, image=_png(0)) for label in (0, 1, 1)])
    _write_records(tmp_path / "d", [pack(float(label), id=0, image=_png(0)) for label in (0, 0, 1)])
    prints = {name: open_source(str(tmp_path / name)).fingerprint() for name in ("a", "b", "longer", "c", "d")}
    assert prints["a"] == prints["b"]
    assert len(set(prints.values())) == 4
    (tmp_path / "b" / "property").write_text("2,112,112")  # no line end: the same content
    assert open_source(str(tmp_path / "b")).fingerprint() == prints["a"]

    _write_folders(tmp_path / "e")
    shutil.copytree(tmp_path / "e", tmp_path / "f")
    before = open_source(str(tmp_path / "e")).fingerprint()
    assert open_source(str(tmp_path / "f")).fingerprint() == before
    (tmp_path / "f" / "Ann").rename(tmp_path / "f" / "Anna")
    assert open_source(str(tmp_path / "f")).fingerprint() != before


@pytest.mark.parametrize(
    ("labels", "described", "message"),
    [
        ([0, 2], None, "no image has the label 1"),
        (
            [0, 1],
            "4,112,112",
            r"no image has the label 2, 3; expected 0 \.\. 3 without a gap\. facerec pack data\.root=",
        ),
        (
            [1, 2],
            "2,112,112",
            r"train\.rec: labels begin at 1; expected 0 \.\. 1 without a gap\. facerec pack data\.root=",
        ),
        ([0, 3], "3,112,112", r"record 1 \(.*label 3, but .*property says 3"),
        ([0, 1.5], None, r"record 1 \(.*label 1.5 is not an identity number"),
        ([0, -1], None, r"record 1 \(.*label -1.0 is not an identity number"),
        ([0, float("nan")], None, r"record 1 \(.*label nan"),
        ([0, 1e15], None, r"no image has the label 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"),
        ([0, 1], "2;112;112", r"property: holds '2;112;112'; expected num_classes,height,width"),
    ],
)
def test_labels_that_do_not_fit_are_named(
    labels: list[float], described: str | None, message: str, tmp_path: Path
) -> None:
    source = _write_records(tmp_path, [pack(float(label), id=0, image=_png(0)) for label in labels], described)
    with pytest.raises(DataError, match=message):
        _ = source.num_classes


def test_image_that_does_not_decode_or_fit_is_named(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", _pixels(0))[1].tobytes()
    images = [_png(0), jpeg[: len(jpeg) // 2], b"no image", b"", _png(0, (96, 112))]
    source = _write_records(tmp_path / "records", [pack(0.0, id=i, image=image) for i, image in enumerate(images)])
    assert len(source) == 5
    for index in (1, 2, 3):
        with pytest.raises(DataError, match=rf"train\.rec, record {index} \(byte \d+\): .* do not decode"):
            source.image(index)
    with pytest.raises(DataError, match=r"record 4 .* 96 x 112 pixels; expected 112 x 112\. .*align it"):
        source.image(4)
    _write_folders(tmp_path / "folders")
    (tmp_path / "folders" / "Ann" / "0.png").write_bytes(_png(0, (250, 250)))
    (tmp_path / "folders" / "Bob" / "2.PNG").write_bytes(b"")
    folder = FolderSource(root=str(tmp_path / "folders"))
    with pytest.raises(DataError, match=r"Bob/2\.PNG: 0 bytes that do not decode"):
        folder.image(2)
    with pytest.raises(DataError, match=r"0\.png: the image is 250 x 250 pixels; .*align it"):
        folder.image([Path(folder.name(i)).name for i in range(4)].index("0.png"))


def test_size_of_the_images_is_that_of_property(tmp_path: Path) -> None:
    write_record_set(tmp_path, [[_png(0, (96, 80)), _png(1)]], height_px=96, width_px=80)
    source = RecordSource(root=str(tmp_path))
    assert source.image(0).shape == (96, 80, 3)
    with pytest.raises(DataError, match="112 x 112 pixels; expected 96 x 80"):
        source.image(1)


def test_crops_have_the_size_that_the_keys_ask_for(tmp_path: Path) -> None:
    path = tmp_path / "folders" / "Ann" / "0.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(_png(0, (112, 96)))
    (tmp_path / "folders" / "list.csv").write_text("path,identity\nAnn/0.png,Ann\n")
    _write_records(tmp_path / "records", [pack(0.0, id=0, image=_png(0, (112, 96)))])
    for root in ("folders", "folders/list.csv", "records"):
        source = open_source(str(tmp_path / root), width_px=96)
        assert source.size_px == (112, 96) and source.image(0).shape == (112, 96, 3)
        assert pickle.loads(pickle.dumps(source)).image(0).shape == (112, 96, 3)
        for keys, expected in (({}, "112 x 112"), ({"height_px": 64, "width_px": 48}, "64 x 48")):
            message = rf"the image is 112 x 96 pixels; expected {expected}\. .*input\.height_px=112 input\.width_px=96"
            with pytest.raises(DataError, match=message):
                open_source(str(tmp_path / root), **keys).image(0)
    with pytest.raises(ConfigError, match=r"input\.height_px=112 input\.width_px=0; expected positive numbers"):
        open_source(str(tmp_path / "folders"), width_px=0)


def test_property_of_another_size_than_the_keys_is_refused_before_an_image_is_read(tmp_path: Path) -> None:
    write_record_set(tmp_path, [[_png(0, (112, 96))]], height_px=112, width_px=96)
    assert open_source(str(tmp_path), height_px=112, width_px=96).image(0).shape == (112, 96, 3)
    message = (
        r"property: says that the crops are 112 x 96 pixels; expected 112 x 112 \(input\.height_px=112 "
        r"input\.width_px=112\)\. Set input\.height_px=112 input\.width_px=96"
    )
    with pytest.raises(DataError, match=message):
        len(open_source(str(tmp_path), height_px=112, width_px=112))


@pytest.mark.parametrize("written", [b"\xef\xbb\xbf2,112,112\r\n", "\ufeff2,112,112\r\n".encode("utf-16-le")])
def test_files_saved_by_an_editor_with_a_byte_order_mark_are_read(written: bytes, tmp_path: Path) -> None:
    write_record_set(tmp_path, [[_png(0)], [_png(1)]])
    (tmp_path / "property").write_bytes(written)
    (tmp_path / "train.idx").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "train.idx").read_bytes())
    (tmp_path / "identities.csv").write_bytes(b"\xef\xbb\xbflabel,identity,num_images\r\n0,Ann,1\r\n1,Bob,1\r\n")
    source = RecordSource(root=str(tmp_path))
    assert (source.num_classes, source.size_px, source.identities) == (2, (112, 112), ["Ann", "Bob"])
    assert source.notes() == []


def test_size_that_images_agree_on_counts_more_than_that_of_property(tmp_path: Path) -> None:
    write_record_set(tmp_path / "a", [[_png(0, (96, 80)), b"damaged", _png(1, (96, 80))]])
    source = RecordSource(root=str(tmp_path / "a"))
    assert source.image(2).shape == (96, 80, 3)
    assert source.notes() == [
        f"{tmp_path}/a/property: says that the images are 112 x 112 pixels, but they are 96 x 80; correct it to 1,96,80"
    ]
    write_record_set(tmp_path / "b", [[_png(0, (96, 80)), _png(1, (80, 96))]])  # which of them is wrong?
    assert RecordSource(root=str(tmp_path / "b")).size_px == (112, 112)


def test_folder_that_is_no_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such folder\. Expected .*train\.rec"):
        open_source(str(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: it is a file"):
        open_source(str(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no folder in it"):
        len(open_source(str(tmp_path / "empty")))
    _write_folders(tmp_path / "faces")
    (tmp_path / "faces" / "Zoe").mkdir()
    with pytest.raises(DataError, match="Zoe: no image in it"):
        len(open_source(str(tmp_path / "faces")))
    (tmp_path / "faces" / "Zoe" / "inner").mkdir()
    with pytest.raises(DataError, match=r"Zoe: no image in it .* It has subfolders: .* give .*/Zoe as data\.root"):
        len(open_source(str(tmp_path / "faces")))
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "train.rec").touch()
    with pytest.raises(DataError, match=r"train\.idx: cannot be opened"):
        len(open_source(str(tmp_path / "lone")))


def test_what_folders_hold_besides_is_counted_and_every_format_of_images_is_read(tmp_path: Path) -> None:
    _write_folders(tmp_path / "faces")
    whole = FolderSource(root=str(tmp_path / "faces"))
    ann = tmp_path / "faces" / "Ann"
    for name in ("../report.csv", "../val.bin", "../._val.bin", ".hidden", "../.hidden.jpg", "Thumbs.db", "._1.png"):
        (ann / name).touch()
    for name in ("__MACOSX/Ann", "@eaDir", "Ann/@eaDir"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / "faces" / name / "1.png").write_bytes(_png(9))
    assert [path.name for path in whole.benchmarks()] == ["val.bin"] and whole.num_classes == 2
    assert whole.notes() == []
    pixels = cv2.imdecode(np.frombuffer(_png(5), np.uint8), cv2.IMREAD_COLOR)
    for name in ("5.tif", "6.jp2", "7.JPE", "8.gif"):
        assert cv2.imwrite(str(ann / name), pixels)
    (ann / "9.jfif").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    source = FolderSource(root=str(tmp_path / "faces"))
    assert len(source) == len(whole) + 5 and source.notes() == []
    (index,) = (number for number in range(len(source)) if source.name(number).endswith("5.tif"))
    np.testing.assert_array_equal(source.image(index), pixels[:, :, ::-1])
    packed = source.encoded(index)  # other readers of record files know fewer formats
    assert packed.startswith(b"\x89PNG")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR), pixels)
    (ann / "2019").mkdir()
    (ann / "2019" / "9.png").write_bytes(_png(9))
    (ann / "5.psd").touch()
    (ann / "Thumbs.db").touch()  # is no image, and no loss
    (tmp_path / "faces" / "loose.PNG").write_bytes(_png(9))
    source = FolderSource(root=str(tmp_path / "faces"))
    assert len(source) == len(whole) + 5
    first = f"{tmp_path}/faces/loose.PNG: an image beside the folders of the identities"
    says = f"{tmp_path}/faces: 3 files and folders passed over, as {first}; facerec inspect out=... lists them"
    assert source.notes() == [says]
    _write_folders(tmp_path / "others")
    assert open_source([str(tmp_path / "others"), str(tmp_path / "faces")]).notes() == [says]


def test_index_that_does_not_fit_the_set_is_named(tmp_path: Path) -> None:
    write_record_set(tmp_path, [[_png(0), _png(1)], [_png(2)]])
    lines = (tmp_path / "train.idx").read_text().splitlines(keepends=True)
    for kept in (lines[:3], [*lines[:2], *lines[3:]]):
        (tmp_path / "train.idx").write_text("".join(kept))
        with pytest.raises(DataError, match="says that images have the keys 1 to 3"):
            len(RecordSource(root=str(tmp_path)))
    (tmp_path / "train.idx").write_text("".join(lines[1:]))  # looks like im2rec's layout, with odd labels
    with pytest.raises(DataError, match=r"label 3, but .*property says 2"):
        _ = RecordSource(root=str(tmp_path)).labels
    _write_records(tmp_path, [pack((1.0, 2.0, 3.0), id=0), pack(0.0, id=1, image=_png(0))])
    with pytest.raises(DataError, match=r"record 0 \(byte 0\): neither an image"):
        len(RecordSource(root=str(tmp_path)))


def test_rounded_number_of_images_is_settled_by_the_index(tmp_path: Path) -> None:
    # The first identity has the key 2^24 + 1, which record 0 can only give as 2^24. All rows of images name one record.
    num_images = 1 << 24
    head = frame(struct.pack("<IfQQ2f", 2, 0.0, 0, 0, np.float32(num_images + 1), np.float32(num_images + 2)))
    image, identity = frame(pack(0.0, id=1, image=b"image")), frame(pack((1.0, 2.0), id=2))
    (tmp_path / "train.rec").write_bytes(head + image + identity)
    source = RecordSource(root=str(tmp_path))
    offsets = np.full(num_images + 2, len(head))
    offsets[0], offsets[-1] = 0, len(head) + len(image)
    _give_index(source, offsets)
    assert np.float32(num_images + 1) == num_images
    assert len(source) == num_images


def _give_index(source: RecordSource, offsets: np.ndarray) -> None:
    """Puts an index in place of the one on disk: writing and reading 17 million lines would take long."""
    (source.root / "train.idx").write_text("0\t0\n")
    index = RecordIndex(offsets=offsets, keys=None, first_key=0, last_row=len(offsets) - 1)
    source._reader._opened = source._reader._open()._replace(entries=index)


def test_real_set_in_insightface_layout(real_data: Path) -> None:
    source = open_source(str(real_data / "celeba_wild"))
    assert isinstance(source, RecordSource)
    assert (len(source), source.num_classes) == (6264, 299)
    assert source.benchmarks() == []
    # The ranges that the identity records give, against the labels read from the images' own headers.
    reader = source._reader
    ranges = np.array([reader.record(row).labels for row in range(6265, 6564)]).astype(int)
    expected = np.repeat(np.arange(299), ranges[:, 1] - ranges[:, 0])
    np.testing.assert_array_equal(source.labels, expected)
    assert ranges[0, 0] == 1
    assert ranges[-1, 1] == 6265
    for index in (0, 3000, 6263):
        assert source.image(index).shape == (112, 112, 3)
