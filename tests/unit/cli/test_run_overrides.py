"""Which overrides a training composes: those of its run, or of the run that it resumes from, then the command's."""

import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from facerec.cli.config.compose import compose
from facerec.cli.run_overrides import run_overrides
from facerec.core.errors import ConfigError


def store(directory: str, *overrides: str, **about: str) -> None:
    """Writes the files of a run as `facerec train` does."""
    path = Path(directory)
    path.mkdir(parents=True)
    (path / "overrides.json").write_text(json.dumps(overrides))
    (path / "run.json").write_text(json.dumps(about))
    (path / "config.yaml").write_text(yaml.safe_dump(OmegaConf.to_container(compose("train", overrides))))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_run_dir_alone_gives_the_stored_overrides_and_a_second_time_the_same():
    store("runs/a", "head.m2=0.3", "seed=2", "run_dir=runs/elsewhere")
    whole = ["head.m2=0.3", "seed=2", "run_dir=runs/a"]
    assert run_overrides("train", ["run_dir=runs/a"]) == whole
    Path("runs/a/overrides.json").write_text(json.dumps(whole))
    assert run_overrides("train", ["run_dir=runs/a"]) == whole
    store("runs/b", "resume=never", "seed=2", "trust=mylab")  # meant for its first start
    assert run_overrides("train", ["run_dir=runs/b"]) == ["seed=2", "run_dir=runs/b"]
    assert run_overrides("train", ["run_dir=runs/a", "seed=3", "launch.processes=2"]) == [
        *("head.m2=0.3", "seed=3", "launch.processes=2", "run_dir=runs/a")
    ]
    assert run_overrides("evaluate", ["model=runs/a"]) == ["model=runs/a"]


def test_named_runs_are_found_by_their_names():
    store("runs/demo/first", "experiment=demo", "head.m2=0.3")
    given = ["experiment=demo", "name=first"]
    assert run_overrides("train", given) == ["head.m2=0.3", "experiment=demo", "run_dir=runs/demo/first"]
    assert run_overrides("train", [*given, "group=other"]) == ["experiment=demo", "run_dir=runs/other/first"]


@pytest.mark.parametrize(
    "stored",
    [
        ["head.m2=0.40", "seed=1", "trainer.num_epochs=null", "trainer.num_steps=30"],
        ["head=arcface", "head.m2=0.4", "trainer.num_steps=30", "loader.num_workers=0"],
    ],
)
def test_run_with_the_same_configuration_is_found_under_another_name(stored, capsys):
    """Also in runs/train, the place of older versions."""
    store("runs/train/old", *stored)
    store("runs/train/other", "head.m2=0.3", "trainer.num_steps=30")
    given = ["trainer.num_steps=30", "head.m2=0.4"]
    assert run_overrides("train", given)[-1] == "run_dir=runs/train/old"
    assert (
        "runs/train/old holds a run with these settings: it takes the place of runs/synthetic"
        in capsys.readouterr().out
    )
    assert run_overrides("train", [*given, "data.root=elsewhere"])[-1].startswith("run_dir=runs/synthetic")
    assert run_overrides("train", [*given, "name=new"])[-1].startswith("run_dir=runs/synthetic")


def test_torchrun_does_not_start_the_processes_of_the_stored_run_again(monkeypatch):
    store("runs/a", "launch.processes=2", "seed=2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_overrides("train", ["run_dir=runs/a"]) == ["seed=2", "run_dir=runs/a"]


def test_run_with_configurations_of_its_own_needs_them_again():
    store("runs/a", "seed=2", config_dir="my conf")
    with pytest.raises(ConfigError, match=r"^runs/a was started with its own .*; add --config-dir 'my conf'$"):
        run_overrides("train", ["run_dir=runs/a"])
    Path("my conf").mkdir()
    assert run_overrides("train", ["run_dir=runs/a"], config_dir="my conf") == ["seed=2", "run_dir=runs/a"]


@pytest.mark.parametrize("planted", ["head._target_=os.mkdir", "+loss={x: {_target_: os.mkdir}}"])
def test_class_in_a_stored_override_must_be_typed_again(planted):
    store("runs/a", "seed=2")
    Path("runs/a/overrides.json").write_text(json.dumps([planted]))
    with pytest.raises(ConfigError, match="a class named by a stored file is never used"):
        run_overrides("train", ["run_dir=runs/a"])
    assert run_overrides("train", ["run_dir=runs/a", planted]) == [planted, "run_dir=runs/a"]
