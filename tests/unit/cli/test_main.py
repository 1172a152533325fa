"""The console script: exit codes, messages, help."""

import errno
import os
import re
import subprocess
import sys
import types

import pytest
import yaml

from facerec.cli.main import main
from facerec.cli.verb_list import VERBS, Verb
from facerec.core.errors import DataError


@pytest.fixture
def verb(configs, monkeypatch):
    """A verb called `train` whose module is a stand-in: its `run` can be replaced."""
    module = types.ModuleType("stand_in_verb")
    module.run = lambda config, overrides: 0
    monkeypatch.setitem(sys.modules, "stand_in_verb", module)
    monkeypatch.setitem(VERBS, "train", Verb(module="stand_in_verb", summary="s", examples=("e",), multirun=True))
    return module


def exit_code(*argv: str) -> int:
    try:
        main(argv)
    except SystemExit as stop:
        return stop.code
    return 0


def test_verb_gets_the_configuration_and_the_overrides(verb):
    seen = []
    verb.run = lambda config, overrides: seen.append((config.seed, overrides)) or 0
    assert exit_code("train", "seed=3", "head.m2=0.1") == 0
    assert seen == [(3, ["seed=3", "head.m2=0.1", "run_dir=runs/arcface/head.m2-0.1__seed-3"])]


def test_exit_code_of_the_verb_is_passed_on(verb):
    verb.run = lambda config, overrides: 1
    assert exit_code("train") == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "head.m2=O.45"], "error: head.m2='O.45' is text; expected a number (float)"),
        (["train", "+head.m3x=1"], "error: head.m3x: MarginHead takes no such argument; did you mean m3?"),
        (["train", "experiment=typo"], "error: experiment=typo: no such option"),
        (["train", "-m", "seed=1,2", "head.m2=O.45"], "error: head.m2='O.45' is text"),
        (["trian"], "error: trian: no such verb; expected one of train, evaluate, align, pack, "),
        (
            ["train", "--lr", "0.1"],
            "error: unrecognized arguments: --lr; settings are written without dashes, as key=value; see",
        ),
        (["train", "--cfg", "hydra"], "error: argument --cfg: invalid choice"),
        (["train", "--jobs", "2"], "error: --jobs 2; expected a positive number, together with -m"),
        (["train", "-m", "--cfg", "job"], "error: --cfg job shows one configuration"),
        (["report", "-m", "run_dir=a,b"], "error: facerec report does not take -m; grids are for train"),
    ],
)
def test_user_errors_exit_with_2_and_one_line(verb, capsys, argv, says):
    assert exit_code(*argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith(says)
    assert err.count("\n") == 1 and out == ""


def test_errors_of_the_verb_are_printed_without_traceback(verb, capsys):
    def run(config, overrides):
        raise DataError("train.rec, record 7: truncated")

    verb.run = run
    assert exit_code("train") == 2
    assert capsys.readouterr().err == "error: train.rec, record 7: truncated\n"


def test_ctrl_c_exits_with_130(verb, capsys):
    def run(config, overrides):
        raise KeyboardInterrupt

    verb.run = run
    assert exit_code("train") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_mistakes_in_facerec_keep_their_traceback(verb):
    def run(config, overrides):
        return config.no_such_attribute

    verb.run = run
    with pytest.raises(Exception, match="no_such_attribute"):
        main(["train"])


def test_cfg_job_prints_yaml_and_runs_nothing(verb, capsys):
    def run(config, overrides):
        raise AssertionError

    verb.run = run
    assert exit_code("train", "head.m2=0.3", "--cfg", "job", "seed=5") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["head"]["m2"], printed["head"]["seed"]) == (0.3, 5)


def test_help_of_a_verb_lists_groups_keys_and_examples(configs, capsys):
    assert exit_code("train", "--help") == 0
    text = capsys.readouterr().out
    assert "Trains a network." in text
    assert "head: arcface, cm1, cosface" in text
    assert "experiment: base, table2/row1, table2/row2" in text
    assert re.search(r"^  seed +0 +of everything random$", text, re.MULTILINE)
    assert re.search(r"^  init_from +null +weights to start from$", text, re.MULTILINE)
    assert "_self_" not in text
    assert "facerec train -m experiment=" in text


def test_help_about_words_prints_their_keys_and_refuses_unknown_ones(configs, capsys):
    assert exit_code("train", "--help", "trainer", "head=cm1") == 0
    text = capsys.readouterr().out
    assert "  trainer.num_epochs  3\n" in text and re.search(r"^  head\.m2 +0\.3$", text, re.MULTILINE)
    assert exit_code("train", "trainr", "--help") == 2
    assert capsys.readouterr().err.startswith("error: trainr: facerec train has no group, option, section or key")


def test_help_needs_neither_torch_nor_hydra():
    code = (
        "import sys\n"
        "from facerec.cli.main import main\n"
        "main(['--help']); main(['train', '--help'])\n"
        "main(['train', '--help', 'trainer', 'head=adaface', 'lr', 'milestones_steps'])\n"
        "sys.exit(', '.join({'torch', 'hydra', 'numpy', 'cv2', 'omegaconf'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: facerec") == 2


@pytest.mark.parametrize("words", [["train", "--cfg", "job"], ["train", "epochs=3"], ["align", "--cfg", "job"]])
def test_configurations_and_their_mistakes_need_no_torch(words, tmp_path):
    code = (
        "import sys\n"
        "from facerec.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    print('loaded', {'torch', 'cv2', 'albumentations'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (0, 2) and done.stdout.endswith("loaded set()\n"), done.stdout + done.stderr


def test_every_verb_has_its_configuration(capsys):
    for name in VERBS:
        assert exit_code(name, "--help") == 0
        assert f"Usage: facerec {name}" in capsys.readouterr().out


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_has_gone_is_no_traceback(unbuffered):
    command = f"{sys.executable} -m facerec train --help | true; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied", "/there/x.bin"), None])
def test_error_of_the_disk_is_one_line_and_others_keep_their_traceback(error, verb, capsys):
    def run(config, overrides):
        raise error or FileNotFoundError(errno.ENOENT, "No such file or directory", "/there/x.bin")

    verb.run = run
    if error:
        assert exit_code("train") == 2
        assert capsys.readouterr().err == "error: /there/x.bin: Permission denied\n"
    else:
        with pytest.raises(FileNotFoundError):
            main(["train"])


def test_deleted_current_directory_is_one_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as stopped:
        main(["train"])
    monkeypatch.undo()
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith("error: the current directory has been del")
