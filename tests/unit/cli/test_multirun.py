"""`-m`: sweeps into trials, all checked first, each a process with a directory of its own; the table at the end."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from facerec.cli import multirun
from facerec.cli.config.compose import compose
from facerec.cli.main import main
from facerec.cli.multirun import plan
from facerec.cli.verb_list import VERBS, Verb
from facerec.core.errors import ConfigError, DataError
from facerec.sweeping.grid import Trial

# A trial: writes what a real one would write, fails for the seed that a file names.
TRIAL = """
import json, sys
from pathlib import Path
directory, config, *overrides = sys.argv[1:]
directory, config = Path(directory), json.loads(config)
directory.mkdir(parents=True, exist_ok=True)
(directory / "config.yaml").write_text(json.dumps(config))
(directory / "overrides.json").write_text(json.dumps(overrides))
(directory / "starts").open("a").write("x")
if Path("failing").exists() and Path("failing").read_text() == str(config["seed"]):
    sys.exit("error: no luck with this seed")
accuracy = 0.9 + config["head"]["m2"] / 10 + config["seed"] / 100
result = {"status": "finished", "step": 1, "metrics": {"eval/lfw/accuracy": accuracy}}
(directory / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture(autouse=True)
def tiny_trials(configs, tmp_path, monkeypatch):
    """The processes of trials run the script above instead of `python -m facerec train`."""
    (tmp_path / "trial.py").write_text(TRIAL)

    def trial_command(verb, trial, *, config_dir):
        config = OmegaConf.to_container(compose(verb, trial.overrides, config_dir))
        return [sys.executable, "trial.py", str(trial.directory), json.dumps(config), *trial.overrides]

    monkeypatch.setitem(sys.modules, "stand_in_verb", type(sys)("stand_in_verb"))
    monkeypatch.setitem(VERBS, "train", Verb(module="stand_in_verb", summary="", examples=(), multirun=True))
    monkeypatch.setattr(multirun, "trial_command", trial_command)


def exit_code(*argv: str) -> int:
    try:
        main(argv)
    except SystemExit as stop:
        return stop.code
    return 0


def starts() -> dict[str, int]:
    return {str(path.parent): len(path.read_text()) for path in Path("runs").rglob("starts")}


def test_trials_run_the_verb_in_a_fresh_interpreter(monkeypatch):
    monkeypatch.undo()
    trial = Trial(overrides=("seed=1", "init_from='a b'"), directory=Path("x"))
    assert multirun.trial_command("train", trial, config_dir="own") == [
        *(sys.executable, "-m", "facerec", "train", "seed=1", "init_from='a b'", "--config-dir", "own")
    ]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("experiment=glob(table2/*)", "so the grid has no trials; glob() searches one folder only: write "),
        ("experiment=glob(table2/*)", "write '+experiment/table2=glob(*)'"),
        ("experiment=glob(tabel*)", "so the grid has no trials; experiment has base"),
        ("seed=glob(*)", "seed is not a group"),
        ("seed=range(3,3)", "so the grid has no trials"),
        ("head.m2=interval(0,1)", "values that can be counted"),
        ("seed=shuffle(1,2)", "remove shuffle()"),
    ],
)
def test_grids_of_no_trials_are_errors_that_tell_the_working_spelling(override, says):
    with pytest.raises(ConfigError) as caught:
        plan("train", [override])
    assert says in str(caught.value)


def test_working_spelling_works():
    directories = [str(trial.directory) for trial, _ in plan("train", shlex.split("'+experiment/table2=glob(*)'"))]
    assert directories == ["runs/table2/row1/default", "runs/table2/row2/default"]


def test_every_trial_is_checked_before_the_first_starts(capsys, monkeypatch):
    assert exit_code("train", "-m", "head.m2=0.3,O.4", "seed=1,2") == 2
    assert capsys.readouterr().err.startswith("error: head.m2='O.4' is text")

    def check(config):
        if config.seed == 2:
            raise ConfigError("not this one")

    monkeypatch.setattr(sys.modules["stand_in_verb"], "check", check, raising=False)
    assert exit_code("train", "-m", "seed=1,2") == 2
    assert starts() == {}


def test_trials_that_would_share_a_directory_are_refused():
    with pytest.raises(ConfigError, match=r"share runs/arcface/seed-1: loader\.num_workers=0, loader\.num_workers=2"):
        plan("train", ["seed=1", "loader.num_workers=0,2"])
    with pytest.raises(ConfigError, match=r"share runs/arcface/seed-3: one is given twice"):
        plan("train", ["seed=3,3"])


def test_grid_runs_trials_and_writes_their_table(capfd):
    assert exit_code("train", "-m", "experiment=base", "head.m2=0.3,0.4", "seed=1,2") == 0
    assert starts() == {f"runs/base/head.m2-{m2}__seed-{seed}": 1 for m2 in ("0.3", "0.4") for seed in (1, 2)}
    text = Path("runs/base/table.md").read_text()
    assert text.startswith("# base\n")
    assert "| 0.3 | 2 | 94.50 ± 0.71 |" in text
    assert "| 0.4 | 2 | 95.50 ± 0.71 |" in text
    assert Path("runs/base/table.csv").read_text().count("\n") == 3
    printed = capfd.readouterr().out
    assert printed.startswith("4 trials in runs/base\n[1/4] head.m2=0.3 seed=1: started\n")
    assert re.search(r"\[4/4\] head.m2=0.4 seed=2: finished in 0:00:\d\d, lfw accuracy 96.00 %\n\n# base\n", printed)
    assert text in printed
    best = "runs/base/head.m2-0.4__seed-2"
    assert re.search(
        rf"table        runs/base/table.md, runs/base/table.csv\nbest         {best} \(eval/lfw/accuracy 96.00 %\)\n"
        rf"next         .+ evaluate model={best} baselines=true\n$",
        printed,
    )


def test_files_that_trials_share_are_opened_once_before_the_first(capsys, monkeypatch):
    checked = []

    def check_trials(configs):
        checked.append([config.seed for config in configs])
        if 5 in checked[-1]:
            raise DataError("lfw.bin: no pairs")
        return [10 for _ in configs]

    monkeypatch.setattr(sys.modules["stand_in_verb"], "check_trials", check_trials, raising=False)
    assert exit_code("train", "-m", "seed=4,5") == 2
    assert capsys.readouterr() == ("", "error: lfw.bin: no pairs\n")
    assert not Path("runs").exists()
    assert exit_code("train", "-m", "seed=1,2") == 0
    assert exit_code("train", "-m", "seed=1,2,3") == 0  # those that are finished need no files
    assert checked == [[4, 5], [1, 2], [3]]


def test_failed_trial_is_listed_and_run_again_while_finished_ones_are_skipped(capfd):
    Path("failing").write_text("2")
    command = ("train", "-m", "head.m2=0.3", "seed=1,2,3")
    assert exit_code(*command) == 1
    reason = "runs/arcface/m2-0.3/seed-2: failed exit code 1: error: no luck with this seed"
    assert f"- {reason}" in Path("runs/arcface/m2-0.3/table.md").read_text()
    out, err = capfd.readouterr()
    assert re.search(r"to see all of its output: .+ train head.m2=0.3 seed=2 run_dir=runs/arcface/m2-0.3/seed-2\n", out)
    assert out.count("error: no luck with this seed") == 1 and err == ""
    assert "failed       1 of 3 trials; listed in runs/arcface/m2-0.3/table.md\n" in out
    Path("failing").unlink()
    assert exit_code(*command) == 0
    assert starts() == {f"runs/arcface/m2-0.3/seed-{seed}": n for seed, n in ((1, 1), (2, 2), (3, 1))}
    assert "Not in the table" not in Path("runs/arcface/m2-0.3/table.md").read_text()


def test_finished_trial_of_another_configuration_is_not_taken_for_this_one(configs):
    assert exit_code("train", "-m", "experiment=base", "seed=1,2") == 0
    file = configs / "experiment" / "base.yaml"
    file.write_text(file.read_text().replace("num_epochs: 5", "num_epochs: 6"))
    assert exit_code("train", "-m", "experiment=base", "seed=1,2") == 0
    assert set(starts().values()) == {2}


def test_run_dir_holds_the_directories_of_the_trials(tmp_path):
    grid = tmp_path / "my grid"
    planned = plan("train", [f"run_dir={grid}", "experiment=base,table2/row1", "seed=1,2"])
    assert [str(trial.directory.relative_to(grid)) for trial, _ in planned] == [
        "base/seed-1",
        "base/seed-2",
        "table2/row1/seed-1",
        "table2/row1/seed-2",
    ]
    assert exit_code("train", "-m", f"run_dir={grid}", "seed=1,2", "--jobs", "2") == 0
    assert sorted(path.name for path in grid.iterdir()) == ["seed-1", "seed-2", "table.csv", "table.md"]
    with pytest.raises(
        ConfigError, match="run_dir=a,b: expected one folder; with -m, it is the folder of the whole grid"
    ):
        plan("train", ["run_dir=a,b", "seed=1"])


def test_grid_with_one_value_more_finds_the_trials_that_are_there(capfd):
    """Also where their names differ: one value is shared by all trials, two are not, and a seed was not typed."""
    assert exit_code("train", "-m", "experiment=base", "head.m2=0.3") == 0
    assert exit_code("train", "-m", "experiment=base", "head.m2=0.3", "seed=0,1") == 0
    assert exit_code("train", "-m", "experiment=base", "head.m2=0.3,0.4", "seed=1,0") == 0
    out = capfd.readouterr().out
    assert (
        "runs/base/m2-0.3/default holds a run with these settings: it takes the place of runs/base/m2-0.3/seed-0" in out
    )
    assert starts() == {
        "runs/base/m2-0.3/default": 1,
        "runs/base/m2-0.3/seed-1": 1,
        "runs/base/head.m2-0.4__seed-1": 1,
        "runs/base/head.m2-0.4__seed-0": 1,
    }
    table = Path("runs/base/table.md").read_text()
    assert "| 0.3 | 2 | 93.50 ± 0.71 |" in table and "| 0.4 | 2 | 94.50 ± 0.71 |" in table


def test_grid_with_a_name_lies_in_its_folder():
    assert [str(trial.directory) for trial, _ in plan("train", ["experiment=base", "name=x", "seed=1,2"])] == [
        "runs/base/x/seed-1",
        "runs/base/x/seed-2",
    ]


def test_report_gathers_the_runs_of_a_directory(capfd):
    assert exit_code("train", "-m", "experiment=base", "seed=1,2") == 0
    table = Path("runs/base/table.md").read_text()
    Path("runs/base/table.md").unlink()
    (Path("configs") / "report.yaml").write_text("run_dir: ???\nout: null\n")
    capfd.readouterr()
    assert exit_code("report", "run_dir=runs/base") == 0
    assert Path("runs/base/table.md").read_text() == table
    assert table in capfd.readouterr().out
    assert exit_code("report", "run_dir=runs/base", "out=elsewhere/deep") == 0
    assert Path("elsewhere/deep/table.csv").is_file()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["run_dir=~/nowhere"], "nowhere: no such directory"),
        (["run_dir=configs"], "no runs below it"),
        ([], "run_dir is not set"),
        (["run_dir=3"], "run_dir=3; expected a path"),
    ],
)
def test_report_of_nothing_is_an_error(capsys, overrides, says):
    (Path("configs") / "report.yaml").write_text("run_dir: ???\nout: null\n")
    assert exit_code("report", *overrides) == 2
    assert says in capsys.readouterr().err
