"""Names of run directories, and what may differ on resuming."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from facerec.cli.run_directory import run_directory
from facerec.runs.comparison import differences
from facerec.runs.naming import MAX_NAME_LENGTH

CONFIG = OmegaConf.create({"run_dir": None})


@pytest.mark.parametrize(
    ("overrides", "directory"),
    [
        ([], "runs/train/default"),
        (["experiment=base"], "runs/base/default"),
        (["experiment=table2/row"], "runs/table2/row/default"),
        (["+experiment/table2=row"], "runs/table2/row/default"),
        (["experiment=[base]"], "runs/base/default"),
        (["seed=1", "head.m2=0.45", "experiment=base"], "runs/base/head.m2-0.45__seed-1"),
        (["head=cosface", "debug=one_step"], "runs/train/debug-one_step__head-cosface"),
        (["head.m2=0.450", "head.m1=-1e-1"], "runs/train/head.m1--0.1__head.m2-0.45"),
        (["head.m2=0.3", "head.m2=0.4"], "runs/train/head.m2-0.4"),
        (["+head.x=TRUE", "optimizer.nesterov=True"], "runs/train/head.x-true__optimizer.nesterov-true"),
        (["~head.m2"], "runs/train/no-head.m2"),
        (
            ["launch.gpus=8", "loader.num_workers=3", "loader=x", "logging.every_steps=1", "eval=none", "resume=never"],
            "runs/train/default",
        ),
        (
            ["eval.num_folds=2", "checkpoint.keep_last=1", "data.root=/x", "trainer.device=cpu", "profile=true"],
            "runs/train/default",
        ),
        (["data=on_disk", "data.root=/x"], "runs/train/data-on_disk"),
    ],
)
def test_name_is_made_from_overrides_that_change_the_result(overrides, directory):
    assert run_directory(CONFIG, overrides) == Path(directory)
    assert run_directory(CONFIG, overrides[::-1]) == Path(directory) or "head.m2=0.3" in overrides


def test_explicit_run_dir_wins():
    assert run_directory(OmegaConf.create({"run_dir": "/a/b"}), ["seed=1"]) == Path("/a/b")


def test_long_names_are_cut_and_stay_distinct():
    overrides = [f"section{i}.some_long_key=value{i}" for i in range(8)]
    first, second = (run_directory(CONFIG, [*overrides, f"z={z}"]).name for z in (1, 2))
    assert len(first) == len(second) == MAX_NAME_LENGTH
    assert first[:-9] == second[:-9] and first != second
    assert first == run_directory(CONFIG, [*reversed(overrides), "z=1"]).name


def test_unsafe_characters_are_replaced_and_names_stay_distinct():
    values = ["runs/a b", "runs/a_b", "'runs/a=b'", "[runs/a,b]", "x__seed-1"]
    names = [run_directory(CONFIG, [f"init_from={value}"]).name for value in values]
    names.append(run_directory(CONFIG, ["init_from=x", "seed=1"]).name)
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for name in names), names


def test_home_is_the_same_quoted_or_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert run_directory(CONFIG, ["init_from=~/a"]) == run_directory(CONFIG, ["init_from='~/a'"])


def test_differences_name_key_and_both_values():
    stored = {"head": {"m2": 0.5, "m3": 0.0}, "seed": 1, "betas": [0.9, 0.999], "name": "a", "gone": None, "free": {}}
    current = {"head": {"m2": 0.4, "m3": 0}, "seed": 1, "betas": (0.9, 0.99), "name": "b", "free": {"new": 1}}
    assert differences(stored, current) == [
        "betas: stored [0.9, 0.999], now [0.9, 0.99]",
        "free: stored {}, now (absent)",
        "free.new: stored (absent), now 1",
        "gone: stored None, now (absent)",
        "head.m2: stored 0.5, now 0.4",
        "name: stored 'a', now 'b'",
    ]


def test_differences_pass_over_what_does_not_change_the_result():
    stored = {"data": {"root": "/a"}, "loader": {"num_workers": 1}, "trainer": {"device": "cpu"}, "run_dir": None}
    current = {
        "data": {"root": "/b"},
        "loader": {"num_workers": 3},
        "trainer": {"device": "cuda"},
        "eval": {"sets": []},
    }
    assert differences(stored, current) == []
    assert differences({"trainer": {"devices": 1}}, {"trainer": {"devices": 2}}) == ["trainer.devices: stored 1, now 2"]


def test_class_that_has_moved_since_is_no_difference():
    stored = {"data": {"source": {"_target_": "facerec.data.synthetic.source.SyntheticSource"}}}
    assert differences(stored, {"data": {"source": {"_target_": "facerec.synthetic.source.SyntheticSource"}}}) == []
