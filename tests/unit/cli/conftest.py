"""A small folder of configurations, laid out like configs/, for the real head classes."""

from pathlib import Path

import pytest

from facerec.cli.config import config_files

TRAIN = """\
# Trains a network.
defaults:
  - head: arcface
  - _self_
  - experiment: null

# of everything random
seed: 0
run_dir: null
init_from: null # weights to start from
trainer:
  num_epochs: 3
loader:
  num_workers: 1
"""
HEAD = """\
_target_: facerec.heads.combined.MarginHead
num_classes: null
m2: {m2}
m3: {m3}
seed: ${{seed}}
"""
HEADS = {"arcface": (0.5, 0.0), "cosface": (0.0, 0.35), "cm1": (0.3, 0.2)}
EXPERIMENT = """\
# @package _global_
defaults:
  - override /head: {head}
trainer:
  num_epochs: {num_epochs}
"""
EXPERIMENTS = {"base": ("cosface", 5), "table2/row1": ("cm1", 7), "table2/row2": ("cosface", 7)}


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    """Stands in for the configs/ of the repository; `run_dir` and others are relative to an empty folder."""
    folder = tmp_path / "configs"
    (folder / "head").mkdir(parents=True)
    for name, (m2, m3) in HEADS.items():
        (folder / "head" / f"{name}.yaml").write_text(HEAD.format(m2=m2, m3=m3))
    (folder / "train.yaml").write_text(TRAIN)
    (folder / "evaluate.yaml").write_text("model: ???\nout: null\n")
    for name, (head, num_epochs) in EXPERIMENTS.items():
        path = folder / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(EXPERIMENT.format(head=head, num_epochs=num_epochs))
    monkeypatch.setattr(config_files, "config_directory", lambda: folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder
