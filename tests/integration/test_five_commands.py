"""The five commands of docs/datasets.md, as they stand there, on photos as if they were the reader's own."""

import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest

from facerec.data.sources import open_source
from facerec.runs.run_log import read_metrics

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
QUICK = [
    "trainer.num_steps=2", "data.global_batch_size=8", "trainer.num_threads=1",
    "trainer.device=cpu", "loader.num_workers=0", "logging.tensorboard=false", "neck.embedding_dim=16",
]  # fmt: skip
NUM_PEOPLE = 10


@pytest.fixture
def home(real_data, tmp_path, monkeypatch) -> Path:
    """A home directory with the photos of the people who have most."""
    photos = real_data / "lfw_photos" / "images"
    counts = Counter({folder.name: len(list(folder.iterdir())) for folder in photos.iterdir()})
    for name, _ in counts.most_common(NUM_PEOPLE):
        shutil.copytree(photos / name, tmp_path / "photos" / name)
    shutil.copy(real_data / "face_detection_yunet.onnx", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_photos_become_a_model_in_five_commands(home, command):
    block = re.search(r"test_five_commands.py runs these -->\n```\n(.*?)```", DOCS.read_text(), flags=re.S)
    lines = [shlex.split(line)[1:] for line in block[1].splitlines()]
    assert [line[0] for line in lines] == ["align", "inspect", "pack", "train", "evaluate"]
    num_photos = len(list((home / "photos").rglob("*.jpg")))
    for verb, *overrides in lines:
        code, printed = command(verb, *overrides, *(QUICK if verb == "train" else ()))
        assert code == 0, printed
        if verb == "align":
            assert f"aligned      {num_photos} of {num_photos} faces" in printed
        if verb == "evaluate":
            assert "val: model" in printed
    packed = open_source(str(home / "faces"))
    assert packed.num_classes == NUM_PEOPLE - 2 and (home / "crops_report" / "contact_sheet.png").exists()
    assert any("eval/val/accuracy" in line for line in read_metrics(home / "runs" / "mine" / "metrics.jsonl"))
