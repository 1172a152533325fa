"""Verification files: every pickle that InsightFace's tools wrote is read, and none of them runs code."""

import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facerec.core.errors import DataError
from facerec.data.verification_file import read_pairs, write_pairs

# Any bytes do for images here: with a newline, a quote and bytes beyond ASCII, which old protocols write out escaped.
IMAGES = [b"\xff\xd8 zero\n", b"\x89PNG 'one'", b"\x00\x80two", b"three"]
SAME = [True, False]


def _read(tmp_path: Path, content: bytes):
    (tmp_path / "set.bin").write_bytes(content)
    return read_pairs(tmp_path / "set.bin")


def _png(value: int) -> tuple[bytes, np.ndarray]:
    pixels = np.full((112, 112, 3), (value, 10, 200), dtype=np.uint8)
    return cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes(), pixels


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", ["bytes", "arrays", "column arrays", "truth array", "truth scalars", "tuple"])
def test_python_3_pickles_of_every_protocol(protocol: int, form: str, tmp_path: Path) -> None:
    images: Any = IMAGES
    same: Any = SAME
    if form == "arrays":
        images = [np.frombuffer(image, np.uint8) for image in IMAGES]
    elif form == "column arrays":
        images = [np.frombuffer(image, np.uint8).reshape(-1, 1) for image in IMAGES]
    elif form == "truth array":
        same = np.array(SAME)
    elif form == "truth scalars":
        same = list(np.array(SAME))
    elif form == "tuple":
        images, same = tuple(IMAGES), (1, 0)
    pairs = _read(tmp_path, pickle.dumps((images, same), protocol=protocol))
    assert pairs.images == IMAGES
    assert pairs.is_same.tolist() == SAME
    assert pairs.is_same.dtype == bool
    assert len(pairs) == 2


@pytest.mark.parametrize("protocol", [2, 3])
def test_numpy_1_names_are_read_as_those_of_numpy_2(protocol: int, tmp_path: Path) -> None:
    images = [np.frombuffer(image, np.uint8) for image in IMAGES]
    content = pickle.dumps((images, list(np.array(SAME))), protocol=protocol)
    one = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    two = content.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
    assert one != two
    for version in (one, two):
        pairs = _read(tmp_path, version)
        assert (pairs.images, pairs.is_same.tolist()) == (IMAGES, SAME)


def test_python_2_pickles_of_protocol_2_and_0(tmp_path: Path) -> None:
    strings = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in IMAGES)
    two = b"\x80\x02](" + strings + b"e](\x88\x89e\x86."
    escaped = b"".join(b"S" + repr(image)[1:].encode() + b"\na" for image in IMAGES)
    zero = b"((l" + escaped + b"(lI01\naI00\nat."
    # An array of NumPy 1 by Python 2: the type's code and the data are byte strings.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x05\x85"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x05threetb"
    )
    arrays = b"\x80\x02](" + array * 4 + b"e](\x88\x89e\x86."
    for content, images in ((two, IMAGES), (zero, IMAGES), (arrays, [b"three"] * 4)):
        pairs = _read(tmp_path, content)
        assert (pairs.images, pairs.is_same.tolist()) == (images, SAME)


@pytest.mark.parametrize("order", ["C", "F"])
def test_decoded_images_keep_their_pixels(order: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    for images in ([np.array(image, order=order) for image in pixels], np.array(pixels, order=order)):
        for protocol in (2, 5):
            pairs = _read(tmp_path, pickle.dumps((images, SAME), protocol=protocol))
            for i in range(4):
                np.testing.assert_array_equal(pairs.decode(i), pixels[i])


def test_encoded_images_decode_to_rgb(tmp_path: Path) -> None:
    (first, pixels), (second, _) = _png(3), _png(250)
    write_pairs(tmp_path / "deep" / "own.bin", [first, second], [False])
    np.testing.assert_array_equal(read_pairs(tmp_path / "deep" / "own.bin").decode(0), pixels)


def test_written_file_is_read_by_plain_pickle_as_insightface_reads_it(tmp_path: Path) -> None:
    write_pairs(tmp_path / "own.bin", IMAGES, np.array(SAME))
    images, same = pickle.loads((tmp_path / "own.bin").read_bytes(), encoding="bytes")
    assert (images, same) == (IMAGES, SAME)
    assert type(same[0]) is bool
    with pytest.raises(DataError, match="4 images for 1 pairs"):
        write_pairs(tmp_path / "other.bin", IMAGES, [True])
    assert [path.name for path in tmp_path.iterdir()] == ["own.bin"]


class _Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "system"), (eval, "eval"), (getattr, "getattr"), (np.load, "numpy.*load")]
)
def test_planted_call_is_refused_and_nothing_is_executed(
    function: Any, name: str, protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    argument = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    for content in (
        _Calls(function, argument),
        ([b"a", _Calls(function, argument)], [True]),
        ([b"a", b"b"], [_Calls(function, argument)]),
    ):
        with pytest.raises(DataError, match=rf"set\.bin: its pickle names \S*{name}.*Nothing was executed"):
            _read(tmp_path, pickle.dumps(content, protocol=protocol))
    assert not marker.exists()


def test_what_a_file_may_call_it_cannot_alter(tmp_path: Path) -> None:
    for state in (b"}U\x01aK\x01s", b"N}U\x0c__setstate__K\x01s\x86"):
        with pytest.raises(DataError, match="alter"):
            _read(tmp_path, b"\x80\x02c_codecs\nencode\n" + state + b"b.")


def test_number_in_a_file_cannot_claim_memory(tmp_path: Path) -> None:
    for bomb in (
        b"\x80\x02]r\xff\xff\xff\xff.",  # the 4,294,967,295th memo
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",  # bytes of 4 EiB
        b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",  # bytes(2147483647)
        b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    ):
        with pytest.raises(DataError, match=r"verification file|two lists"):
            _read(tmp_path, bomb)


def test_memo_number_makes_no_room(tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(b"\x80\x02]r\x00\x00\x00\x04.")  # the 67,108,864th memo: 1 GiB in C's unpickler
    tracemalloc.start()
    with pytest.raises(DataError, match="two lists"):
        read_pairs(tmp_path / "set.bin")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_every_truncation_is_a_named_error(tmp_path: Path) -> None:
    content = pickle.dumps(([np.frombuffer(image, np.uint8) for image in IMAGES], SAME), protocol=2)
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"set\.bin"):
            _read(tmp_path, content[:length])


@given(position=st.integers(0, 400), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_byte_is_read_or_named_and_nothing_else(position: int, value: int, tmp_path: Path) -> None:
    content = bytearray(pickle.dumps(([np.frombuffer(image, np.uint8) for image in IMAGES], SAME), protocol=2))
    content[position % len(content)] = value
    try:
        pairs = _read(tmp_path, bytes(content))
    except DataError as error:
        assert "set.bin" in str(error)
    else:
        assert len(pairs.images) == 2 * len(pairs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2, 3], "expected the two lists"),
        ((IMAGES, 5), "issame: a int"),
        ((IMAGES, [True]), "4 images for 1 pairs"),
        (([], []), "0 images for 0 pairs"),
        ((IMAGES, [True, 7]), "pair 1: issame is 7"),
        (([b"a", "text"], [True]), "image 1: str"),
        (([b"a", np.zeros((4, 4), np.uint8)], [True]), r"image 1: uint8 \(4, 4\)"),
        (([b"a", np.zeros(4)], [True]), "image 1: an array of f8"),
        ((np.array(IMAGES, dtype=object), SAME), "an array of O8"),
    ],
)
def test_content_that_is_no_verification_set_is_named(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, pickle.dumps(content))


def test_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    pairs = _read(tmp_path, pickle.dumps(([_png(1)[0], _png(2)[0][:200]], [True])))
    with pytest.raises(DataError, match=r"set\.bin, image 1: 200 bytes that do not decode"):
        pairs.decode(1)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.bin: cannot be opened"):
        read_pairs(tmp_path / "nowhere.bin")


def test_real_files_are_read(real_data: Path) -> None:
    lfw = read_pairs(real_data / "lfw_dev.bin")
    assert (len(lfw), int(lfw.is_same.sum())) == (1200, 600)
    assert lfw.is_same.reshape(10, 120).sum(axis=1).tolist() == [60] * 10
    assert lfw.decode(2399).shape == (112, 112, 3)
    with open(real_data / "lfw_dev.bin", "rb") as file:
        assert pickle.load(io.BytesIO(file.read()), encoding="bytes") == (lfw.images, lfw.is_same.tolist())
    small = read_pairs(real_data / "insightface_small_lfw.bin")
    assert (len(small), int(small.is_same.sum())) == (10, 10)
    assert [small.decode(i).shape for i in range(20)] == [(112, 112, 3)] * 20
    # Skin is redder than blue: the channels are RGB.
    for pairs in (lfw, small):
        mean = np.mean([pairs.decode(i)[30:80, 30:80].mean(axis=(0, 1)) for i in range(20)], axis=0)
        assert mean[0] > mean[2] + 20


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:8f2383e4\nsize 232589\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is an HTML page"),
        (b"\xff\xd8\xff\xe0", r"is an image, not a verification file \(\.bin\)"),
    ],
)
def test_file_of_something_else_is_named(content, says, tmp_path):
    (tmp_path / "lfw.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"lfw\.bin {says}"):
        read_pairs(tmp_path / "lfw.bin")
