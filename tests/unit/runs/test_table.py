"""The table of a grid, from run directories."""

import csv
import io
import json
import statistics

import pytest
import yaml

from facerec.core.errors import DataError
from facerec.runs.run_directory import RunDirectory
from facerec.runs.table import as_csv, make_table, markdown, read_runs, write_table


def resolved(overrides):
    """The configuration that the overrides give: a seed, and a head with m2."""
    config = {"seed": 0, "head": {"m2": 0.5}, "resume_from": None}
    for key, _, value in (override.partition("=") for override in overrides):
        if key == "head":
            config["head"]["_target_"] = value
        elif key.startswith("head."):
            config["head"][key.removeprefix("head.")] = float(value)
        elif key == "seed":
            config["seed"] = int(value)
    return config


@pytest.fixture
def make_run(tmp_path):
    def make(name, overrides, metrics=None, *, config=None, status="finished"):
        directory = tmp_path / "grid" / name
        directory.mkdir(parents=True)
        (directory / "overrides.json").write_text(json.dumps(overrides))
        (directory / "config.yaml").write_text(yaml.safe_dump(config or resolved(overrides)))
        if metrics is not None:
            metrics = {f"eval/{name}/accuracy": value for name, value in metrics.items()}
            result = {"status": status, "step": 9, "metrics": {**metrics, "train/loss": 1.0, "eval/lfw/auc": 0.9}}
            (directory / "result.json").write_text(json.dumps(result))
        return directory

    return make


@pytest.fixture
def grid(make_run, tmp_path):
    common = ["experiment=x", "loader.num_workers=2", "run_dir=/a"]
    accuracies = {"0.3": [0.95, 0.96, 0.94], "0.4": [0.97, 0.972]}
    for m2, values in accuracies.items():
        for seed, value in enumerate(values, start=1):
            make_run(f"m2-{m2}-{seed}", [*common, f"head.m2={m2}", f"seed={seed}"], {"lfw": value, "agedb": value / 2})
    make_run("m2-0.4-3", [*common, "head.m2=0.4", "seed=3"])
    make_run("default", common, {"lfw": 0.5})
    return tmp_path / "grid"


def test_markdown_has_mean_and_sample_std_over_seeds(grid):
    text = markdown(make_table(read_runs([grid])), title="grid")
    lines = text.splitlines()
    assert "sample standard deviation (ddof = 1)" in text
    assert "Overrides of all rows: experiment=x." in text
    assert lines[lines.index("| head.m2 | seeds | agedb accuracy (%) | lfw accuracy (%) |") + 2 :][:3] == [
        f"| 0.3 | 3 | 47.50 ± {statistics.stdev([47.5, 48, 47]):.2f} | 95.00 ± 1.00 |",
        "| 0.4 | 2 | 48.55 ± 0.07 | 97.10 ± 0.14 |",
        "| 0.5 | 1 | - | 50.00 |",
    ]
    assert f"Not in the table (1):\n\n- {grid / 'm2-0.4-3'}: unfinished\n" in text


def test_csv_has_the_figures_of_the_markdown(grid):
    rows = list(csv.DictReader(io.StringIO(as_csv(make_table(read_runs([grid]))))))
    assert [row["head.m2"] for row in rows] == ["0.3", "0.4", "0.5"]
    first, second, last = rows
    assert float(first["lfw_accuracy_mean_percent"]) == pytest.approx(95.0)
    assert float(first["lfw_accuracy_std_percent"]) == pytest.approx(1.0)
    assert float(second["lfw_accuracy_std_percent"]) == pytest.approx(0.1414, abs=1e-4)
    assert (last["lfw_accuracy_std_percent"], last["agedb_accuracy_mean_percent"], last["num_seeds"]) == ("", "", "1")


def test_seeds_without_a_benchmark_are_counted_in_the_cell(make_run, tmp_path):
    make_run("a", ["seed=1"], {"lfw": 0.9, "cfp": 0.8})
    make_run("b", ["seed=2"], {"lfw": 0.9})
    text = markdown(make_table(read_runs([tmp_path])), title="t")
    assert (
        "| seeds | cfp accuracy (%) | lfw accuracy (%) |\n| --- | --- | --- |\n| 2 | 80.00 (of 1) | 90.00 ± 0.00 |"
        in text
    )


def test_groups_and_experiments_are_columns_where_they_differ(make_run, tmp_path):
    make_run("a", ["+experiment/table2=row1", "head=cosface", "seed=1"], {"lfw": 0.9})
    make_run("b", ["experiment=table2/row2", "seed=1"], {"lfw": 0.8})
    text = markdown(make_table(read_runs([tmp_path])), title="t")
    assert "| experiment | head | seeds | lfw accuracy (%) |" in text
    assert "| table2/row1 | cosface | 1 | 90.00 |" in text
    assert "| table2/row2 | default | 1 | 80.00 |" in text


def test_repeated_seed_is_left_out_and_named(make_run, tmp_path):
    make_run("a", ["head.m2=0.3"], {"lfw": 0.9})  # seed 0 comes from the configuration
    make_run("b", ["head.m2=0.3", "seed=0"], {"lfw": 0.7})
    table = make_table(read_runs([tmp_path]))
    assert [(row.num_seeds, row.shown("lfw")) for row in table.rows] == [(1, [90.0])]
    assert table.left_out == [f"{tmp_path}/grid/b: the same setting and seed as {tmp_path}/grid/a"]


def test_defaults_that_are_typed_make_no_second_row(make_run, tmp_path):
    make_run("a", ["seed=1"], {"lfw": 0.9})
    make_run("b", ["seed=2", "head.m2=0.50"], {"lfw": 0.8})
    make_run("c", ["seed=1", "head.m2=0.3", "trainer.num_epochs=null", "trainer.num_steps=5"], {"lfw": 0.7})
    make_run("d", ["seed=2", "head.m2=0.3", "trainer.num_steps=5"], {"lfw": 0.7})
    text = markdown(make_table(read_runs([tmp_path])), title="t")
    assert "| 0.3 | 5 | 2 | 70.00 ± 0.00 |" in text and "| 0.50 | default | 2 | 85.00 ± 7.07 |" in text


def test_rows_that_differ_in_their_configuration_alone_say_where(make_run, tmp_path):
    make_run("a", ["experiment=x"], {"lfw": 0.9}, config={"seed": 0, "optimizer": {"lr": 0.1}, "head": {"seed": 0}})
    make_run("b", ["experiment=x"], {"lfw": 0.8}, config={"seed": 0, "optimizer": {"lr": 0.2}, "head": {"seed": 0}})
    make_run("c", ["seed=1"], {"lfw": 0.7}, config={"seed": 1, "optimizer": {"lr": 0.2}, "head": {"seed": 1}})
    text = markdown(make_table(read_runs([tmp_path])), title="t")
    assert "| optimizer.lr | seeds |" in text.replace("| experiment ", "")
    assert "| 0.1 | 1 | 90.00 |" in text and "| 0.2 | 2 | 75.00 ± 7.07 |" in text


def test_failures_are_listed_with_their_reason(make_run, tmp_path):
    started = make_run("a", ["seed=1"])
    make_run("b", ["seed=2"], {"lfw": 0.9}, status="stopped")
    failures = {started: "failed exit code 2: error: no data", tmp_path / "c": "failed exit code 1: x"}
    table = make_table(read_runs([tmp_path]), failures=failures)
    assert table.left_out == [
        f"{tmp_path}/c: failed exit code 1: x",
        f"{started}: failed exit code 2: error: no data",
        f"{tmp_path}/grid/b: unfinished",
    ]
    text = markdown(table, title="t")
    assert "No run has finished." in text and "|" not in text


def test_tables_are_written_whole(grid, tmp_path):
    table = make_table(read_runs([grid]))
    paths = write_table(table, tmp_path / "new" / "folder", title="t")
    assert [path.name for path in paths] == ["table.md", "table.csv"]
    assert paths[0].read_text() == markdown(table, title="t")
    assert paths[1].read_text() == as_csv(table)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["table.csv", "table.md"]


@pytest.mark.parametrize(("name", "text"), [("result.json", "{"), ("result.json", "[]"), ("config.yaml", "a: [")])
def test_damaged_files_are_named(make_run, name, text):
    directory = make_run("a", ["seed=1"], {"lfw": 0.9})
    (directory / name).write_text(text)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_runs([directory])


def test_only_finished_results_count(make_run):
    assert RunDirectory(make_run("a", [], {"lfw": 0.9})).read_result()[0] == 9
    assert RunDirectory(make_run("b", [], {"lfw": 0.9}, status="stopped")).read_result() is None
    assert RunDirectory(make_run("c", [])).read_result() is None
