"""Every command that facerec prints can be pasted into a shell, whatever the user has called files and folders."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import facerec
from facerec.align.similarity import TEMPLATE_112
from facerec.cli import multirun
from facerec.cli.commands import own_command
from facerec.cli.config.config_files import config_directory
from facerec.cli.config.overrides import parse_overrides
from facerec.cli.verb_list import VERBS
from facerec.core.typed_text import override_of
from facerec.data.records.recordio import write_record_set
from facerec.data.verification_file import write_pairs
from facerec.sweeping.grid import Outcome
from facerec.training.trainer import Trainer, TrainResult
from tests.integration.training_runs import SIZE_PX, TINY, encoded_images, environment, write_faces

NAMES = ["runs/my run, = 2", "runs/跑"]
CALLED = own_command()


def printed_commands(printed: str) -> list[str]:
    """The command lines of facerec in what was printed."""
    beginning = shlex.join(CALLED)
    return [beginning + line.partition(beginning)[2] for line in printed.splitlines() if beginning in line]


def pasted(line: str) -> list[str]:
    """The arguments of facerec after a shell has read the line; all overrides among them parse."""
    subprocess.run(["bash", "-n", "-c", line], check=True)
    shown = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, text=True).stdout
    words = shown.split("\0")[:-1]
    assert words[: len(CALLED)] == CALLED
    verb, *rest = words[len(CALLED) :]
    if "--config-dir" in rest:
        place = rest.index("--config-dir")
        rest = rest[:place] + rest[place + 2 :]
    assert verb in VERBS
    parse_overrides([one for one in rest if one != "-m"])
    return words[len(CALLED) :]


@pytest.fixture
def own_configs(tmp_path) -> Path:
    """A --config-dir with a head of its own."""
    folder = tmp_path / "my conf"
    (folder / "head").mkdir(parents=True)
    head = yaml.safe_load((config_directory() / "head" / "arcface.yaml").read_text())
    (folder / "head" / "mine.yaml").write_text(yaml.safe_dump(head | {"m2": 0.3}))
    return folder


@pytest.fixture
def start(command, tmp_path, monkeypatch, own_configs) -> Callable[..., tuple[int, str]]:
    """`start(run_dir, ...)` trains a few steps, under the head of `own_configs`."""
    monkeypatch.chdir(tmp_path)
    faces = write_faces(tmp_path / "faces, of mine")
    images = [one for identity in encoded_images(seed=2, num_identities=20, per_identity=2) for one in identity]
    write_pairs(faces / "val, 1.bin", images, [True, False] * 10)

    def run(run_dir: str, *more: str) -> tuple[int, str]:
        tiny = [one for one in TINY if one != "eval.sets=[]"]
        places = [override_of("data.root", faces), override_of("run_dir", run_dir)]
        return command("train", *tiny, *places, "trainer.num_steps=2", "head=mine", *more, "--config-dir", "my conf")

    return run


@pytest.mark.parametrize("name", NAMES)
def test_closing_commands_of_a_training_run_and_name_what_is_there(name, start, command, tmp_path):
    code, printed = start(name)
    assert code == 0, printed
    (evaluate,) = printed_commands(printed)
    assert pasted(evaluate)[:3] == ["evaluate", "--config-dir", "my conf"]
    assert "TensorBoard" not in printed and f"\ncurves       {name}/curves.png\n" in printed
    closing = re.search(r"^checkpoint .*?^next .*?$", printed, flags=re.MULTILINE | re.DOTALL)
    assert closing is not None and closing[0].count("\n") < 8
    done = subprocess.run(
        ["bash", "-c", evaluate], capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "val, 1: model" in done.stdout and "TensorBoard" not in done.stdout
    assert f"\nmetrics      {name}/evaluation.json\n" in done.stdout
    (report,) = printed_commands(done.stdout)
    assert pasted(report) == ["report", "--config-dir", "my conf", "run_dir=runs"]
    code, printed = command(*pasted(report))
    assert code == 0 and "| val, 1 accuracy (%) |" in printed, printed


def test_closing_command_of_a_run_that_nothing_has_measured_leads_to_a_benchmark(start, command, tmp_path):
    code, printed = start(NAMES[0], "eval.sets=[]")
    (evaluate,) = printed_commands(printed)
    assert override_of("sets", [tmp_path / "faces, of mine" / "val, 1.bin"]) in pasted(evaluate)
    assert command(*pasted(evaluate))[0] == 0
    images = encoded_images(seed=3, num_identities=12, per_identity=4)
    write_record_set(tmp_path / "others, 12", images, height_px=SIZE_PX, width_px=SIZE_PX)
    code, printed = start(NAMES[1], override_of("data.root", "others, 12"))
    (pack,) = printed_commands(printed)
    assert pasted(pack)[-1] == override_of("out", "others, 12_split")
    code, printed = command(*pasted(pack))
    assert code == 0 and "of 2 identities" in printed, printed


def test_tensorboard_is_named_where_it_was_written(start, tmp_path):
    code, printed = start(NAMES[0], "logging.tensorboard=true")
    assert code == 0, printed
    (line,) = re.findall(r"TensorBoard  (.*)", printed)
    *_, option, folder = shlex.split(line)
    assert option == "--logdir" and Path(folder) == Path(NAMES[0]) / "tensorboard" and any(Path(folder).iterdir())


def test_command_of_a_stopped_training_goes_on(start, command, tmp_path, monkeypatch):
    with monkeypatch.context() as stopped:
        result = TrainResult(step=1, finished=False, stopped_by="SIGINT", checkpoint=tmp_path)
        stopped.setattr(Trainer, "fit", lambda self: result)
        code, printed = start(NAMES[0])
    assert code == 0 and "stopped at step 1" in printed
    (line,) = printed_commands(printed)
    assert pasted(line) == ["train", "--config-dir", "my conf", override_of("run_dir", NAMES[0])]
    code, printed = command("train", *pasted(line)[3:])
    assert code == 2 and "was started with its own configuration folder; add --config-dir 'my conf'" in printed
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / NAMES[0] / "result.json").exists()


def test_commands_of_a_grid_are_those_of_its_trials(start, monkeypatch):
    failing = lambda trials, **_: [Outcome(trial=trial, status="failed") for trial in trials]  # noqa: E731
    monkeypatch.setattr(multirun, "run_grid", failing)
    code, printed = start("runs/跑, 2", "-m", "optimizer.lr=0.1,0.2")
    assert code == 1 and printed.count("to see all of its output:") == 2, printed
    for line in printed_commands(printed):
        words = pasted(line)
        assert words[:3] == ["train", "--config-dir", "my conf"]
        (run_dir,) = [one.value() for one in parse_overrides(words[3:]) if one.key_or_group == "run_dir"]
        assert Path(run_dir).parent == Path("runs/跑, 2")


def test_commands_after_align_inspect_pack_and_clean_run(command, start, tmp_path):
    photos = tmp_path / "photos, 跑"
    lines = ["path,identity,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"]
    points = ",".join(f"{value:.1f}" for value in (TEMPLATE_112 + 40).ravel())
    drawn = np.random.default_rng(3)
    for number in range(20):
        path = photos / f"person {number % 10}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = drawn.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        path.write_bytes(cv2.imencode(".jpg", cv2.resize(coarse, (200, 200)))[1].tobytes())
        lines.append(f"{path.relative_to(photos)},{path.parent.name},{points}")
    (tmp_path / "points.csv").write_text("\n".join(lines))
    code, printed = command(
        "align", override_of("photos", photos), f"landmarks={tmp_path / 'points.csv'}",
        override_of("out", tmp_path / "crops = 1"),
    )  # fmt: skip
    assert code == 0, printed
    for verb in ("inspect", "pack"):
        (line,) = printed_commands(printed)
        assert pasted(line)[0] == verb
        code, printed = command(*pasted(line))
        assert code == 0, printed
    (train,) = printed_commands(printed)
    assert pasted(train)[:2] == ["train", "data=on_disk"]
    code, printed = command("inspect", override_of("data.root", photos))
    inspect, align = printed_commands(printed)
    code, printed = command(*pasted(inspect))
    assert code == 0 and "200 x 200" in printed
    code, printed = command(*pasted(align))
    assert code == 2 and "DETECTOR.onnx" in printed and "Traceback" not in printed
    code, printed = start(NAMES[1])
    assert code == 0, printed
    code, printed = command(
        "clean", override_of("model", NAMES[1]), override_of("data.root", tmp_path / "faces, of mine"),
        override_of("out", tmp_path / "it's clean"), "input.height_px=32", "input.width_px=32",
    )  # fmt: skip
    assert code == 0, printed
    code, printed = command(*pasted(printed_commands(printed)[0]))
    assert code == 0, printed
    assert override_of("eval.sets", [tmp_path / "faces, of mine" / "val, 1.bin"]) in pasted(
        printed_commands(printed)[0]
    )


def test_refusals_name_overrides_that_can_be_typed(command, start, tmp_path):
    _, printed = start(NAMES[0])
    _, printed = start(NAMES[0], "optimizer.lr=0.3")
    resume, weights = printed_commands(printed)
    place = override_of("run_dir", f"{NAMES[0]}_2")
    assert pasted(resume)[3:] == [override_of("resume_from", NAMES[0]), place, "optimizer.lr=0.3"]
    assert pasted(weights)[-2:] == [override_of("init_from", NAMES[0]), place]
    assert all(pasted(one)[:3] == ["train", "--config-dir", "my conf"] for one in (resume, weights))
    for refused in ("run_dir=runs/my run, = 2", "run_dir=runs/跑", "data.root=(a)", "eval.sets=[a(1).bin,it's.bin]"):
        code, printed = command("train", refused)
        (mend,) = re.findall(r"for the shell: (.*)", printed)
        (word,) = shlex.split(mend)
        assert code == 2 and [one.key_or_group for one in parse_overrides([word])] == [refused.partition("=")[0]]


@pytest.mark.parametrize("example", [example for verb in VERBS.values() for example in verb.examples])
def test_examples_of_the_help_can_be_typed(example):
    subprocess.run(["bash", "-n", "-c", example], check=True)
    name, verb, *rest = shlex.split(example)
    assert name == "facerec" and verb in VERBS
    parse_overrides([one for one in rest if one != "-m"])


def test_one_file_quotes_for_the_shell_and_one_writes_commands():
    sources = Path(facerec.__file__).parent
    texts = {path.relative_to(sources).as_posix(): path.read_text() for path in sources.rglob("*.py")}
    assert [name for name, text in texts.items() if "shlex" in text] == ["core/typed_text.py"]
    verbs = "|".join(VERBS)
    assembled = re.compile(rf"""f["'][^"'\n]*facerec ({verbs})( \S+=\S+)* \S+=\{{""")
    assert [name for name, text in texts.items() if assembled.search(text)] == []
