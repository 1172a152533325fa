"""Photos of every format give the pixels that Pillow gives, turned upright."""

import base64
import io
import sys

import cv2
import numpy as np
import pytest
import torch
import torchvision.io
from PIL import Image, ImageOps

from facerec.align.photo_reader import (
    HEIF_SUFFIXES,
    PHOTO_SUFFIXES,
    MissingReaderError,
    decode_rgb,
    encode_png,
    is_heif,
    read_bytes,
)
from facerec.core.errors import DataError

ORIENTATION = 0x112


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    """A photo without sharp edges, so that a codec's losses stay small; no row or column like another."""
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


PHOTO = Image.fromarray(smooth())
ALPHA = PHOTO.copy()
ALPHA.putalpha(PHOTO.convert("L"))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# 24 x 16 pixels, red above blue, with EXIF orientation 6 and its box of rotation; written by pillow-heif 1.8.1.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAcltZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAA"
    "AAAERAAAIAAQAAAAAB7QABAAAAAAAAAEcAAgAAAAACNAABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVp"
    "bmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABCGlwcnAAAADnaXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0"
    "ABDAH//wQIAAADAJ44AAADAAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEECCy3VXTXNwENBgQAAADAZAAAAMAEIBiAAEACEQBwXMYMBiQ"
    "AAAAE2NvbHJuY2x4AAEADQAGgAAAABRpc3BlAAAAAAAAAEAAAABAAAAAKGNsYXAAAAAYAAAAAQAAABAAAAAB////2AAAAAL////QAAAAAgAAAB"
    "BwaXhpAAAAAAMICAgAAAAJaXJvdAMAAAAZaXBtYQAAAAAAAAABAAEGgQIDBYSGAAAAGmlyZWYAAAAAAAAADmNkc2MAAgABAAEAAABzbWRhdAAA"
    "AEMoAa8GMhoxxoBdQfk9vVz//+hd9D52KS/K3S9fD5H0Zf//RfAdhC/G2j1hh6Bsgl9me0990GUznq/zGchfGcD05UmAAAAABkV4aWYAAE1NAC"
    "oAAAAIAAEBEgADAAAAAQAGAAAAAAAA"
)
# Older Pillows write none.
AVIF = cv2.imencode(".avif", smooth()[:, :, ::-1], [cv2.IMWRITE_AVIF_QUALITY, 100])[1].tobytes()


def as_pillow_reads(content: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (PHOTO, "JPEG"), (PHOTO, "PNG"), (PHOTO, "WEBP"), (PHOTO, "TIFF"), (PHOTO, "BMP"), (PHOTO, "GIF"),
        (PHOTO.convert("L"), "JPEG"), (PHOTO.convert("L"), "PNG"), (PHOTO.convert("1"), "PNG"),
        (PHOTO.convert("P"), "PNG"), (ALPHA, "PNG"), (ALPHA, "WEBP"), (ALPHA.convert("LA"), "PNG"),
        (PHOTO.convert("CMYK"), "JPEG"), (PHOTO.convert("CMYK"), "TIFF"),
    ],
)  # fmt: skip
def test_photo_has_the_pixels_that_pillow_gives(image, kind):
    content = encoded(image, kind)
    found = decode_rgb(content, where="")
    assert found.dtype == np.uint8 and found.shape == (40, 56, 3) and found.flags.c_contiguous
    # CMYK is converted by another formula: one level
    assert np.abs(found.astype(int) - as_pillow_reads(content)).max() <= 1
    if image.mode == "L":
        assert (found == found[:, :, :1]).all()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_has_the_pixels_of_every_decoder_to_the_bit(subsampling, progressive):
    noise = Image.fromarray(np.random.default_rng(4).integers(0, 256, (112, 112, 3), dtype=np.uint8))
    content = encoded(noise, "JPEG", quality=90, subsampling=subsampling, progressive=progressive)
    found = decode_rgb(content, where="")
    np.testing.assert_array_equal(found, as_pillow_reads(content))
    by_torchvision = torchvision.io.decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    np.testing.assert_array_equal(found, by_torchvision.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_scaled_not_clipped(channels):
    values = np.arange(40 * 56 * 3).reshape(40, 56, 3) * 9 % 65536
    pixels = np.dstack([values, values[:, :, :1]]).astype(np.uint16)[:, :, :channels]
    found = decode_rgb(cv2.imencode(".png", pixels)[1].tobytes(), where="")
    expected = pixels[:, :, 2::-1] if channels > 1 else pixels.repeat(3, axis=2)
    assert np.abs(found - expected / 257).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_turned_upright(orientation, kind):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(PHOTO, kind, exif=exif)
    found = decode_rgb(content, where="")
    assert found.shape == ((40, 56, 3) if orientation < 5 else (56, 40, 3))
    np.testing.assert_array_equal(found, as_pillow_reads(content))


@pytest.mark.parametrize("kept", [0, 3, 100, -40])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_photo_is_named(kind, kept):
    with pytest.raises(DataError, match=r"^a\.jpg: \d+ bytes that do not decode"):
        decode_rgb(encoded(PHOTO, kind)[:kept], where="a.jpg")


def test_heic_is_read_and_turned_once_where_its_package_is_installed():
    pytest.importorskip("pi_heif", reason="facerec[heif] is not installed")
    found = decode_rgb(HEIC, where="")
    assert found.shape == (24, 16, 3) and found.flags.writeable and found.flags.c_contiguous
    np.testing.assert_allclose(found[12, [2, 13]], [[0, 0, 255], [255, 0, 0]], atol=3)  # turned by a quarter
    with pytest.raises(DataError, match=r"^a\.heic: 300 bytes that do not decode as a HEIC photo"):
        decode_rgb(HEIC[:300], where="a.heic")


def test_heic_without_its_package_names_the_package(monkeypatch):
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingReaderError, match=r"^a\.HEIC: a HEIC photo .* pip install 'facerec\[heif\]'"):
        decode_rgb(HEIC, where="a.HEIC")


def test_avif_is_read():
    np.testing.assert_array_equal(decode_rgb(AVIF, where=""), smooth())


def test_only_the_heic_family_is_taken_for_heic():
    assert is_heif(HEIC) and HEIF_SUFFIXES[0] in PHOTO_SUFFIXES
    video = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"
    assert not any(map(is_heif, (b"", video, AVIF, encoded(PHOTO, "JPEG"))))


def test_png_gives_the_pixels_back():
    np.testing.assert_array_equal(decode_rgb(encode_png(smooth()), where=""), smooth())


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jpg: cannot be read \(No such file"):
        read_bytes(tmp_path / "nowhere.jpg")


def test_pointer_in_place_of_a_photo_is_named():
    with pytest.raises(DataError, match=r"a\.jpg: 50 bytes that do not decode .* Git LFS pointer: run git lfs pull"):
        decode_rgb(b"version https://git-lfs.github.com/spec/v1\noid sha"[:50], where="a.jpg")
