"""Names of run directories, and what may differ on resuming."""

from pathlib import Path

import pytest

from facerec.cli.run_directory import Place, place_of, run_directory, trial_directories, without_place
from facerec.core.errors import ConfigError
from facerec.runs.comparison import differences, merged
from facerec.runs.naming import MAX_NAME_LENGTH

SHORT = [
    "data=on_disk", "data.root=/data/celeba_wild", "backbone.width_multiplier=0.25", "neck.embedding_dim=64",
    "data.global_batch_size=16", "trainer.num_steps=30",
]  # fmt: skip
ADHOC = "synthetic_iresnet18_arcface"


def directory_of(overrides: list[str]) -> str:
    return str(run_directory(without_place(overrides), place_of(overrides)))


@pytest.mark.parametrize(
    ("overrides", "directory"),
    [
        ([], f"runs/{ADHOC}/default"),
        (["experiment=demo"], "runs/demo/default"),
        (["experiment=table2/arcface_m05"], "runs/table2/arcface_m05/default"),
        (["+experiment/table2=arcface_m05"], "runs/table2/arcface_m05/default"),
        (["experiment=[demo]"], "runs/demo/default"),
        (["seed=1", "head.m2=0.45", "experiment=demo"], "runs/demo/head.m2-0.45__seed-1"),
        (["head=cosface", "debug=one_step"], "runs/synthetic_iresnet18_cosface/debug-one_step"),
        (["head=cosface", "experiment=demo"], "runs/demo/head-cosface"),
        (["head.m2=0.450", "head.m1=-1e-1"], f"runs/{ADHOC}/head.m1--0.1__head.m2-0.45"),
        (["head.m2=0.3", "head.m2=0.4"], f"runs/{ADHOC}/head.m2-0.4"),
        (["+head.x=TRUE", "optimizer.nesterov=True"], f"runs/{ADHOC}/head.x-true__optimizer.nesterov-true"),
        (["~head.m2"], f"runs/{ADHOC}/no-head.m2"),
        (["loss=[intra,inter]"], f"runs/{ADHOC}/loss-intra-inter"),
        (
            ["launch.gpus=8", "loader.num_workers=3", "logging.every_steps=1", "resume=never", "trainer.num_threads=1"],
            f"runs/{ADHOC}/default",
        ),
        (
            ["eval.num_folds=2", "checkpoint.keep_last=1", "data.root=/x", "trainer.device=cpu", "profile=true"],
            f"runs/{ADHOC}/default",
        ),
        (["data=on_disk", "data.root=/x/faces"], "runs/faces_iresnet18_arcface/default"),
        (["data=on_disk", "data.root=[/x/a,/y/b.csv]"], "runs/a-b_iresnet18_arcface/default"),
        (["data=casia", "data.root=/x", "backbone=iresnet50"], "runs/casia_iresnet50_arcface/default"),
        (["data=on_disk", "data.root=/x/faces", "experiment=demo"], "runs/demo/data-faces"),
        (["trainer.num_epochs=null", "trainer.num_steps=9"], f"runs/{ADHOC}/trainer.num_steps-9"),
        (["experiment=demo", "name=first"], "runs/demo/first"),
        (["name=7", "head=cosface", "seed=2"], "runs/synthetic_iresnet18_cosface/7"),
        (["group=ablation/margins", "experiment=demo", "seed=2"], "runs/ablation/margins/experiment-demo__seed-2"),
        (["group=x", "data=on_disk", "data.root=/x/faces", "head=cosface"], "runs/x/data-faces__head-cosface"),
        (["run_dir=/a/b", "seed=1"], "/a/b"),
        (
            [*SHORT, "seed=2"],
            "runs/celeba_wild_iresnet18_arcface/width_multiplier-0.25__global_batch_size-16__embedding_dim-64"
            "__num_steps-30__seed-2",
        ),
    ],
)
def test_name_is_made_from_overrides_that_change_the_result(overrides, directory):
    assert directory_of(overrides) == directory
    assert directory_of(overrides[::-1]) == directory or "head.m2=0.3" in overrides


def test_long_names_are_cut_stay_distinct_and_keep_the_seed():
    overrides = [f"section{i}.some_very_long_key=value{i}" for i in range(8)]
    first, second, third = (
        directory_of([*overrides, *more]).rpartition("/")[2] for more in (["z=1"], ["z=2"], ["z=1", "seed=12"])
    )
    assert len(first) <= MAX_NAME_LENGTH and len(third) <= MAX_NAME_LENGTH
    assert first[:-8] == second[:-8] and first != second
    assert third.endswith("__seed-12") and third.removesuffix("__seed-12")[-8:] == first[-8:]
    assert directory_of([*reversed(overrides), "z=1"]).endswith(first)


def test_unsafe_characters_are_replaced_and_names_stay_distinct():
    values = ["runs/a b", "runs/a_b", "'runs/a=b'", "[runs/a,b]", "x__seed-1"]
    names = [directory_of([f"init_from={value}"]).rpartition("/")[2] for value in values]
    names.append(directory_of(["init_from=x", "seed=1"]).rpartition("/")[2])
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for name in names), names


def test_home_is_the_same_quoted_or_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert directory_of(["init_from=~/a"]) == directory_of(["init_from='~/a'"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["name=a/b"], "name=a/b: expected a folder's name"),
        (["group=../x"], r"group=\.\./x: expected a folder's name"),
        (["name=true"], "name=true: expected one folder"),
        (["run_dir=a,b"], "run_dir=a,b: expected one folder; with -m, it is the folder of the whole grid"),
        (["run_dir=a", "name=b"], "run_dir=a and name=b both name the folder; remove one"),
    ],
)
def test_places_that_cannot_be_are_refused(overrides, says):
    with pytest.raises(ConfigError, match=says):
        place_of(overrides)


def grid(*trials: list[str], place: Place | None = None) -> list[str]:
    return [str(path) for path in trial_directories(trials, place or Place())]


def test_trials_are_named_by_what_varies_and_the_seed_and_lie_in_a_folder_named_by_the_rest():
    folder = (
        "runs/celeba_wild_iresnet18_arcface/width_multiplier-0.25__global_batch_size-16__embedding_dim-64__num_steps-30"
    )
    margins = [[*SHORT, f"head.m2={m2}", "seed=1"] for m2 in ("0.2", "0.30", "0.4")]
    names = [f"{folder}/head.m2-{m2}__seed-1" for m2 in ("0.2", "0.3", "0.4")]
    assert grid(*margins) == names
    assert grid(*margins[:2]) == names[:2]
    assert grid(*([*trial[::-1], "loader.num_workers=3"] for trial in margins)) == names
    assert grid(["experiment=demo", "seed=1"], ["experiment=demo", "seed=2"]) == [
        "runs/demo/seed-1",
        "runs/demo/seed-2",
    ]
    assert grid(["experiment=demo", "head.m2=0.3", "seed=1"]) == ["runs/demo/m2-0.3/seed-1"]


def test_what_a_grid_varies_is_not_in_the_name_of_its_group():
    heads = [["data=on_disk", "data.root=/x/faces", f"head={head}"] for head in ("arcface", "cosface")]
    assert grid(*heads) == ["runs/faces_iresnet18/head-arcface", "runs/faces_iresnet18/head-cosface"]
    sets = [["data=on_disk", f"data.root=/x/{name}"] for name in "ab"]
    assert grid(*sets) == ["runs/iresnet18_arcface/data-a", "runs/iresnet18_arcface/data-b"]
    experiments = [["experiment=demo", "seed=2"], ["experiment=table2/cm1", "seed=2"]]
    assert grid(*experiments) == ["runs/demo/seed-2", "runs/table2/cm1/seed-2"]


def test_named_grids_hold_their_trials():
    trials = [["experiment=demo", "optimizer.lr=0.2", f"head.m2={m2}", "seed=1"] for m2 in (0.2, 0.3)]
    names = ["head.m2-0.2__seed-1", "head.m2-0.3__seed-1"]
    assert grid(*trials, place=Place(name="first")) == [f"runs/demo/first/{name}" for name in names]
    assert grid(*trials, place=Place(group="a/b")) == [f"runs/a/b/experiment-demo__lr-0.2/{name}" for name in names]
    assert grid(*trials, place=Place(run_dir=Path("/g"))) == [f"/g/{name}" for name in names]


@pytest.mark.parametrize(
    ("stored", "given", "together"),
    [
        (["a.x=1", "b=2"], ["a.x=3"], ["b=2", "a.x=3"]),
        (["+head.m2=1", "seed=2"], ["head.m2=3"], ["seed=2", "head.m2=3"]),
        (["head.m2=1"], ["~head.m2"], ["~head.m2"]),
        (["experiment=table2/a"], ["+experiment/table2=b"], ["+experiment/table2=b"]),
        (["head=arcface", "head.m2=0.4", "header.x=1"], ["head=cosface"], ["header.x=1", "head=cosface"]),
        (["head=arcface", "head.m2=0.4"], ["head=arcface"], ["head.m2=0.4", "head=arcface"]),
        (["trainer.num_epochs=3", "seed=1"], ["trainer.num_steps=9"], ["seed=1", "trainer.num_steps=9"]),
        (["trainer.num_steps=3", "trainer.num_epochs=null"], ["trainer.num_epochs=2"], ["trainer.num_epochs=2"]),
        (
            ["loss=[intra]", "loss.intra.weight=2"],
            ["loss=[inter,intra]"],
            ["loss.intra.weight=2", "loss=[inter,intra]"],
        ),
        (["eval.sets=[a,b]"], [], ["eval.sets=[a,b]"]),
    ],
)
def test_later_overrides_replace_stored_ones(stored, given, together):
    assert merged(stored, given) == together
    assert merged(together, given) == together  # the same command again


def test_differences_name_key_and_both_values():
    stored = {"head": {"m2": 0.5, "m3": 0.0}, "seed": 1, "betas": [0.9, 0.999], "title": "a", "gone": None, "free": {}}
    current = {"head": {"m2": 0.4, "m3": 0}, "seed": 1, "betas": (0.9, 0.99), "title": "b", "free": {"new": 1}}
    assert differences(stored, current) == [
        "betas: stored [0.9, 0.999], now [0.9, 0.99]",
        "free: stored {}, now (absent)",
        "free.new: stored (absent), now 1",
        "gone: stored None, now (absent)",
        "head.m2: stored 0.5, now 0.4",
        "title: stored 'a', now 'b'",
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


def test_key_that_is_newer_than_the_run_and_null_is_no_difference():
    assert differences({"seed": 1}, {"seed": 1, "resume_from": None}) == []
    assert differences({"seed": 1}, {"seed": 1, "resume_from": "a"}) == ["resume_from: stored (absent), now 'a'"]
