"""A look into a file says what it is, whatever its name, and whether its end is missing."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from facerec.core.file_kind import FileKind, look_at, not_itself

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:8f2383e4\nsize 232589\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Not found</body></html>"
DENIED = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'


def onnx_bytes() -> bytes:
    """A ModelProto: ir_version 8, producer "pytorch", a graph of 300 bytes, an operator set."""
    return b"\x08\x08\x12\x07pytorch" + b"\x3a\xac\x02" + bytes(300) + b"\x42\x04\x0a\x00\x10\x11"


def torch_file(path: Path, *, is_zip: bool = True) -> bytes:
    torch.save({"a": torch.zeros(99)}, path, _use_new_zipfile_serialization=is_zip)
    return path.read_bytes()


def of_kinds(folder: Path) -> dict[FileKind, list[bytes]]:
    save_file({"a": torch.zeros(99), "b": torch.zeros(2)}, folder / "x")
    tensors = (folder / "x").read_bytes()
    np.save(folder / "x.npy", np.zeros(3))
    torch.jit.script(torch.nn.Linear(2, 2)).save(folder / "script")
    with zipfile.ZipFile(folder / "z", "w") as archive:
        archive.writestr("photos/a.jpg", b"a")
    return {
        FileKind.LFS_POINTER: [POINTER],
        FileKind.HTML: [PAGE, b"\xef\xbb\xbf<html>", b"<!-- a page --><HTML>"],
        FileKind.XML: [DENIED],
        FileKind.EMPTY: [b""],
        FileKind.TORCH: [torch_file(folder / "t"), torch_file(folder / "t", is_zip=False)],
        FileKind.TORCH_SCRIPT: [(folder / "script").read_bytes()],
        FileKind.ONNX: [onnx_bytes()],
        FileKind.SAFETENSORS: [tensors],
        FileKind.ZIP: [(folder / "z").read_bytes()],
        FileKind.PICKLE: [pickle.dumps({"a": 1}), pickle.dumps([b"x"], protocol=2)],
        FileKind.RECORDS: [b"\x0a\x23\xd7\xce" + bytes(20)],
        FileKind.NUMPY: [(folder / "x.npy").read_bytes()],
        FileKind.IMAGE: [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"RIFF\x10\0\0\0WEBPVP8 "],
        FileKind.TAR: [bytes(257) + b"ustar"],
        FileKind.GZIP: [b"\x1f\x8b\x08"],
        FileKind.JSON: [b'{"a": 1}', b" [1]"],
        FileKind.TEXT: [b"hello", "안녕".encode()],
        FileKind.UNKNOWN: [b"\0\1\2", b"\xff\xfe\xfd and more than that"],
    }


def test_kinds_are_told_by_content(tmp_path):
    for kind, contents in of_kinds(tmp_path).items():
        for content in contents:
            (tmp_path / "file.pth").write_bytes(content)
            look = look_at(tmp_path / "file.pth")
            assert (look.kind, look.ends_early, look.size_bytes) == (kind, False, len(content)), content[:40]


def test_files_that_lack_their_end_are_told_with_both_sizes(tmp_path):
    kinds = of_kinds(tmp_path)
    for kind in (FileKind.TORCH, FileKind.ONNX, FileKind.SAFETENSORS, FileKind.ZIP):
        whole = kinds[kind][0]
        for num_bytes in (len(whole) - 1, len(whole) * 2 // 3, 90):
            (tmp_path / "cut").write_bytes(whole[:num_bytes])
            look = look_at(tmp_path / "cut")
            assert look.ends_early, (kind, num_bytes)
            assert f"{num_bytes:,} bytes" in str(look.not_itself())
    (tmp_path / "cut").write_bytes(kinds[FileKind.SAFETENSORS][0][:-1])
    assert f" bytes of at least {len(kinds[FileKind.SAFETENSORS][0])}." in str(not_itself(tmp_path / "cut"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (POINTER, "a.onnx is a Git LFS pointer, not the file itself: .*run git lfs pull"),
        (PAGE, "a.onnx is an HTML page, not the file that its name promises.*download the file itself"),
        (DENIED, "a.onnx is an XML page"),
        (b"", r"a.onnx is empty \(0 bytes\)"),
    ],
)
def test_what_is_not_the_file_is_said_in_one_line_with_the_mend(content, says, tmp_path):
    (tmp_path / "a.onnx").write_bytes(content)
    message = not_itself(tmp_path / "a.onnx")
    assert message is not None and "\n" not in message
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(message)


def test_damaged_starts_raise_nothing(tmp_path):
    rng = np.random.default_rng(0)
    for contents in of_kinds(tmp_path).values():
        for content in contents:
            for _ in range(40):
                damaged = bytearray(content[: rng.integers(len(content) + 1)])
                for at in rng.integers(0, max(1, min(len(damaged), 200)), size=3):
                    damaged[at : at + 1] = bytes([rng.integers(256)])
                (tmp_path / "damaged").write_bytes(damaged)
                look_at(tmp_path / "damaged").not_itself()
    (tmp_path / "damaged").write_bytes(struct.pack("<Q", 20) + b'{"a":{"data_offsets"')
    look_at(tmp_path / "damaged")


def test_absent_file_is_not_judged(tmp_path):
    assert not_itself(tmp_path / "absent") is None
    assert not_itself(tmp_path) is None
