"""A directory is whole or absent, and any change to it is found."""

import errno
import json
import os
from pathlib import Path

import pytest

from facerec.core.errors import CheckpointError
from facerec.runs.manifest import MANIFEST, read_manifest
from facerec.runs.whole_directory import whole_directory

ABOUT = {"step": 7, "metrics": {"eval/lfw/accuracy": 0.9953}, "threads": [1, 2]}


def write(path: Path) -> Path:
    with whole_directory(path, ABOUT) as partial:
        (partial / "state").mkdir()
        (partial / "model.safetensors").write_bytes(b"weights")
        (partial / "state" / "empty").write_bytes(b"")
        (partial / "state" / "tensors.safetensors").write_bytes(bytes(range(9)))
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_directory_appears_only_when_everything_is_written(tmp_path):
    path = tmp_path / "checkpoints" / "step-1"
    with whole_directory(path, ABOUT) as partial:
        (partial / "model.safetensors").write_bytes(b"weights")
        assert not path.exists()
        assert partial.parent == path.parent and partial.name.startswith("step-1.partial-")
    assert names(path.parent) == ["step-1/manifest.json", "step-1/model.safetensors"]


def test_manifest_gives_back_what_it_was_told_and_the_checksums(tmp_path):
    manifest = read_manifest(write(tmp_path / "step-1"))
    files = manifest.pop("files")
    assert manifest == ABOUT
    assert set(files) == {"model.safetensors", "state/empty", "state/tensors.safetensors"}
    assert files["model.safetensors"] == {
        "bytes": 7,
        "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
    }


@pytest.mark.parametrize("name", ["model.safetensors", "state/tensors.safetensors", MANIFEST])
def test_flipped_bit_in_any_byte_is_found_and_its_file_named(name, tmp_path):
    path = write(tmp_path / "step-1")
    original = (path / name).read_bytes()
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= 1 << position % 8
        (path / name).write_bytes(changed)
        with pytest.raises(CheckpointError, match=name.rpartition("/")[2]):
            read_manifest(path)
    (path / name).write_bytes(original)
    read_manifest(path)


def test_missing_short_and_long_files_are_found(tmp_path):
    path = write(tmp_path / "step-1")
    file = path / "state" / "tensors.safetensors"
    for content in (bytes(range(8)), bytes(range(10)), b""):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tensors\.safetensors is not what was written"):
            read_manifest(path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"tensors\.safetensors is missing"):
        read_manifest(path)
    (path / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be read"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"files": 3}', '{"manifest_sha256": null, "files": {}}'])
def test_what_is_no_manifest_is_refused(text, tmp_path):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_failed_write_leaves_nothing_and_touches_nothing(error, tmp_path):
    before = write(tmp_path / "step-1")
    expected = CheckpointError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as raised, whole_directory(tmp_path / "step-2", ABOUT) as partial:
        (partial / "model.safetensors").write_bytes(b"half of it")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    read_manifest(before)
    if expected is CheckpointError:
        assert "step-2 could not be written" in str(raised.value) and "No space left" in str(raised.value)


def test_unwritable_place_is_a_checkpoint_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / "step-1"
    with pytest.raises(CheckpointError, match="could not be written"), whole_directory(path, {}):
        pass


def test_existing_directory_is_not_overwritten(tmp_path):
    path = write(tmp_path / "step-1")
    with pytest.raises(CheckpointError, match="could not be written"), whole_directory(path, {}) as partial:
        (partial / "model.safetensors").write_bytes(b"other")
    assert (path / "model.safetensors").read_bytes() == b"weights"
    read_manifest(path)


def test_killed_writer_leaves_no_directory_under_the_final_name(tmp_path):
    child = os.fork()
    if child == 0:
        with whole_directory(tmp_path / "step-1", ABOUT) as partial:
            (partial / "model.safetensors").write_bytes(b"half of it")
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("step-1.partial-") and not (left / MANIFEST).exists()


def test_manifest_is_plain_json(tmp_path):
    stored = json.loads((write(tmp_path / "step-1") / MANIFEST).read_text())
    assert stored["step"] == 7 and len(stored["manifest_sha256"]) == 64
