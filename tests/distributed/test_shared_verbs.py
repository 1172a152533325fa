"""evaluate, clean and align in two processes: the files of one process, one voice, and going on after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.align.similarity import TEMPLATE_112
from facerec.cli.main import main
from facerec.data.verification_file import write_pairs
from facerec.embedding.embed_set import SHARDS_FOLDER
from tests.distributed.launches import workers_of
from tests.integration.training_runs import (
    SIZE_PX,
    TIMEOUT_S,
    Process,
    encoded_images,
    environment,
    has_ended,
    tiny_overrides,
)

IN_TWO = "launch.processes=2"
SIZE = [f"input.height_px={SIZE_PX}", f"input.width_px={SIZE_PX}"]


def start(argv: list[str], log: Path, *, launcher: tuple[str, ...] = ()) -> Process:
    """`python -m facerec ...`, in a process group of its own."""
    with open(log, "ab") as output:
        started = subprocess.Popen(
            [sys.executable, *launcher, "-m", "facerec", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            process_group=0,
        )
    return Process(pid=started.pid, wait=lambda: started.wait(TIMEOUT_S), log=log)


def files_of(folder: Path) -> dict[str, bytes]:
    """By name; those that two runs write alike."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".align"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """Six identities with eight images each, one of which cannot be read."""
    root = tmp_path_factory.mktemp("crops")
    for identity, images in enumerate(encoded_images(seed=1)):
        (root / f"{identity}").mkdir()
        for number, image in enumerate(images):
            (root / f"{identity}" / f"{number}.jpg").write_bytes(image)
    (root / "3" / "5.jpg").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def model(crops, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("model") / "run"
    main(["train", *tiny_overrides(crops, run_dir, "trainer.num_steps=1", "loader.on_corrupt=skip")])
    return run_dir


@pytest.fixture
def photos(tmp_path) -> Path:
    """A table of thirty photos of five people with their landmarks."""
    rows = []
    for number in range(30):
        noise = np.random.default_rng(number).integers(1, 256, (12, 13, 3), dtype=np.uint8)
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(noise, (130, 120)))
        rows.append([f"photos/{number}.png", f"person {number % 5}", *(TEMPLATE_112 * 0.9 + number / 10).reshape(-1)])
    table = tmp_path / "photos.csv"
    with table.open("w", newline="") as file:
        header = ["path", "identity", *(f"{axis}{point}" for point in range(1, 6) for axis in "xy")]
        csv.writer(file).writerows([header, *rows])
    return table


def test_align_in_two_processes_writes_the_files_of_one(photos, tmp_path):
    command = ["align", f"landmarks={photos}", "batch_size=2"]
    main([*command, f"out={tmp_path / 'alone'}"])
    assert start([*command, f"out={tmp_path / 'two'}", IN_TWO], tmp_path / "log").wait() == 0
    printed = (tmp_path / "log").read_text()
    assert printed.count("aligned      30 of 30 faces") == 1 and "Traceback" not in printed
    assert files_of(tmp_path / "two") == files_of(tmp_path / "alone")
    assert not list((tmp_path / "two").rglob("*of_process*"))

    for name in ("0", "9"):  # crops of two batches are made again, whatever made them first
        (tmp_path / "two" / f"person {int(name) % 5}" / f"{name}.jpg").unlink()
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert start([*command, f"out={tmp_path / 'two'}"], tmp_path / "log2", launcher=torchrun).wait() == 0
    printed = (tmp_path / "log2").read_text()
    assert printed.count("aligned      30 of 30 faces, 28 of them before") == 1, printed
    assert files_of(tmp_path / "two") == files_of(tmp_path / "alone")


def test_clean_and_evaluate_in_two_processes_write_the_files_of_one(crops, model, tmp_path):
    images = [image for images in encoded_images(seed=1) for image in images]
    order = [number for pair in range(24) for number in (pair, pair + 1 if pair % 2 else 47 - pair)]
    write_pairs(tmp_path / "own.bin", [images[number] for number in order], [pair % 2 == 1 for pair in range(24)])
    clean = ["clean", f"data.root={crops}", *SIZE, f"model={model}", "device=cpu", "batch_size=5", "min_score=0.1"]
    clean += [f"against=[{tmp_path / 'own.bin'}]"]
    evaluate = ["evaluate", f"model={model}", f"sets=[{tmp_path / 'own.bin'}]", "device=cpu", "num_folds=4"]
    for name, argv, said in (("clean", clean, "searched     48 images"), ("evaluate", evaluate, "own: model")):
        alone, two = (tmp_path / f"{name}_{which}" for which in ("alone", "two"))
        out = {path: path / "figures.json" if name == "evaluate" else path for path in (alone, two)}
        main([*argv, f"out={out[alone]}"])
        assert start([*argv, f"out={out[two]}", IN_TWO], tmp_path / name).wait() == 0, (tmp_path / name).read_text()
        printed = (tmp_path / name).read_text()
        assert printed.count(said) == 1 and "Traceback" not in printed and "Warning" not in printed
        assert files_of(two) == files_of(alone) and files_of(two)


def test_error_of_all_processes_is_said_once(crops, model, tmp_path):
    (tmp_path / "none.bin").write_bytes(b"no pairs")
    argv = ["evaluate", f"model={model}", f"sets=[{tmp_path / 'none.bin'}]", "device=cpu", IN_TWO]
    assert start(argv, tmp_path / "log").wait() == 2
    printed = (tmp_path / "log").read_text()
    assert printed.count("error:") == 1 and "none.bin" in printed and "Traceback" not in printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["align", "landmarks=a.csv", "out=b", "launch.gpus=2"], "launch.gpus=2: align works on the CPU"),
        (["evaluate", "model=a", "launch.gpus=9"], "launch.gpus=9, but torch finds"),
        (["evaluate", "model=a", "device=cuda", IN_TWO], "launch.processes=2 works on the CPU, device=cuda"),
        (["clean", "data.root=a", "out=b", "apply=true", IN_TWO], "launch.processes=2: apply=true applies"),
    ],
)
def test_what_cannot_work_is_refused_before_any_process_starts(given, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(given)
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Lets processes that this one starts hear SIGINT, which a shell's background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_all_processes_without_a_restart(number, crops, model, tmp_path):
    argv = ["clean", f"data.root={crops}", *SIZE, f"model={model}", "device=cpu", "batch_size=1", "min_score=0.1"]
    process = start([*argv, f"out={tmp_path / 'out'}", IN_TWO], tmp_path / "log")
    process.wait_until(lambda: len(list((tmp_path / "out" / SHARDS_FOLDER).glob("*.npz"))) >= 4)
    workers = workers_of(process.pid)
    os.kill(process.pid, number)
    printed = (tmp_path / "log").read_text
    assert process.wait() == 130 and "interrupted" in printed() and "restart" not in printed(), printed()
    assert len(workers) == 2 and all(map(has_ended, workers.values()))


@pytest.mark.slow
def test_embedding_goes_on_after_a_process_was_killed_and_after_all_were(crops, model, tmp_path):
    argv = ["clean", f"data.root={crops}", *SIZE, f"model={model}", "device=cpu", "batch_size=1", "min_score=0.1"]
    main([*argv, f"out={tmp_path / 'alone'}"])
    out, log = tmp_path / "two", tmp_path / "log"

    def shards() -> int:
        return len(list((out / SHARDS_FOLDER).glob("*.npz")))

    process = start([*argv, f"out={out}", IN_TWO], log)
    process.wait_until(lambda: shards() >= 4)
    os.kill(workers_of(process.pid)[1], signal.SIGKILL)
    process.wait_until(lambda: "process 1 was killed by SIGKILL; restart 1 of 3" in log.read_text())
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and shards() >= 4
    assert start([*argv, f"out={out}", IN_TWO], log).wait() == 0
    assert files_of(out) == files_of(tmp_path / "alone")
    assert json.loads((out / "embedded.json").read_text())["num_images"] == 48
