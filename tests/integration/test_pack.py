"""`facerec pack`: from own crops to a set that trains and evaluates, and what it refuses."""

import csv
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.cli.config.overrides import parse_overrides
from facerec.cli.main import main
from facerec.data.records.recordio import RecordReader
from facerec.data.sources import open_source
from facerec.data.verification_file import read_pairs, write_pairs
from facerec.runs.run_log import read_metrics

NUM_IDENTITIES, PER_IDENTITY = 12, 5


@pytest.fixture
def crops(tmp_path) -> Path:
    rng = np.random.default_rng(4)
    for identity in range(NUM_IDENTITIES):
        for number in range(1, PER_IDENTITY + 1):
            coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
            path = tmp_path / "crops" / f"P {identity}" / f"P {identity}_{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", cv2.resize(coarse, (112, 112)))[1].tobytes())
    return tmp_path / "crops"


@pytest.fixture
def pack(command, tmp_path):
    """`pack(...)` packs what is inside `crops` into `out`: (exit code, what was printed)."""
    return lambda *more: command("pack", f"data.root={tmp_path / 'crops'}", f"out={tmp_path / 'out'}", *more)


def test_crops_become_a_set_that_trains_and_is_evaluated_on_people_never_seen(crops, pack, tmp_path):
    code, printed = pack("split.val_identities=0.25", "pairs=auto")
    assert code == 0, printed
    assert f"{tmp_path}/out/val.bin: 30 positive, 30 negative, of 3 identities" in printed
    assert "they resolve a FAR no lower than 1/30 = 3.3e-02" in printed
    assert f"training set {tmp_path}/out: 45 images of 9 identities" in printed
    with open(tmp_path / "out" / "identities.csv") as file:
        trained = {row["identity"] for row in csv.DictReader(file)}
    val = read_pairs(tmp_path / "out" / "val.bin")
    crop_of = {path.read_bytes(): path.parent.name for path in crops.rglob("*.jpg")}
    names = [crop_of[image] for image in val.images]
    assert len(trained) == 9 and len(set(names)) == 3 and not trained & set(names)
    assert [first == second for first, second in zip(names[::2], names[1::2], strict=True)] == val.is_same.tolist()
    run_dir = tmp_path / "run"
    main([
        "train", "data=on_disk", f"data.root={tmp_path / 'out'}", f"run_dir={run_dir}", "data.global_batch_size=4",
        "backbone.width_multiplier=0.25", "neck.embedding_dim=16", "trainer.num_steps=1",
        "trainer.num_threads=1", "trainer.device=cpu", "loader.num_workers=0", "logging.tensorboard=false",
    ])  # fmt: skip
    assert any("eval/val/accuracy" in line for line in read_metrics(run_dir / "metrics.jsonl"))
    # a model makes the negative pairs hard: each an image and one that looks like it
    code, printed = pack(
        f"out={tmp_path / 'hard'}", "split.val_identities=3", "pairs=auto", f"auto_pairs.hard_negatives={run_dir}",
        "auto_pairs.num_positive=5", "auto_pairs.num_negative=5", "auto_pairs.device=cpu",
    )  # fmt: skip
    assert code == 0 and "5 positive, 5 negative, of " in printed


def test_list_as_lfw_has_it_becomes_a_verification_set(crops, pack, tmp_path):
    (tmp_path / "pairs.txt").write_text("1\t1\nP 3\t1\t5\nP 3\t2\tP 11\t4\n")
    code, printed = pack(f"pairs={tmp_path / 'pairs.txt'}", f"out={tmp_path / 'own.bin'}")
    assert code == 0 and "own.bin: 1 positive, 1 negative, of 2 identities" in printed
    names = ["P 3/P 3_0001", "P 3/P 3_0005", "P 3/P 3_0002", "P 11/P 11_0004"]
    assert read_pairs(tmp_path / "own.bin").images == [(crops / f"{name}.jpg").read_bytes() for name in names]
    assert not (tmp_path / "out").exists()


def test_list_with_positives_first_is_dealt_into_folds_and_so_is_such_a_file(crops, pack, command, tmp_path):
    positive = [(f"P {i}/P {i}_000{j}.jpg", f"P {i}/P {i}_0005.jpg", 1) for i in range(10) for j in (1, 2)]
    negative = [(f"P {i}/P {i}_000{j}.jpg", f"P {i + 1}/P {i + 1}_0003.jpg", 0) for i in range(10) for j in (1, 2)]

    def packed(name: str, pairs: list[tuple[str, str, int]]) -> tuple[list[bool], list[bytes], str]:
        lines = [",".join(map(str, pair)) for pair in pairs]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path1,path2,is_same", *lines, ""]))
        code, printed = pack(f"pairs={tmp_path / name}.csv", f"out={tmp_path / name}.bin")
        assert code == 0, printed
        found = read_pairs(tmp_path / f"{name}.bin")
        return found.is_same.tolist(), found.images, printed

    truths, images, printed = packed("ordered", positive + negative)
    assert truths == [False, True] * 20 and "the pairs were distributed again" in printed
    assert images[:4] == [(crops / path).read_bytes() for pair in (negative[0], positive[0]) for path in pair[:2]]
    mixed = [pair for pairs in zip(positive, negative, strict=True) for pair in pairs]
    truths, _, printed = packed("mixed", mixed)
    assert truths == [True, False] * 20 and "note" not in printed  # as the list has it
    truths, _, printed = packed("one kind", positive)
    assert truths == [True] * 20 and "Add pairs of two persons: facerec pack" in printed
    write_pairs(tmp_path / "theirs.bin", images[2:4] * 20 + images[:2] * 20, [True] * 20 + [False] * 20)
    code, printed = command("inspect", f"data.root={tmp_path / 'theirs.bin'}")
    assert code == 1 and f"pack data.root={tmp_path / 'theirs.bin'} out={tmp_path / 'theirs_dealt.bin'}" in printed
    given = ["pack", f"data.root={tmp_path / 'theirs.bin'}", f"out={tmp_path / 'dealt.bin'}"]
    code, printed = command(*given)
    assert code == 0 and "dealt.bin: 20 positive, 20 negative, in an order in which" in printed
    dealt = read_pairs(tmp_path / "dealt.bin")
    assert dealt.is_same.tolist() == [False, True] * 20 and dealt.images == images[:4] * 20
    assert "already exists" in command(*given)[1]
    code, printed = command(*given[:2], f"out={tmp_path / 'new.bin'}", "split.val_identities=0.5", "pairs=auto")
    assert code == 2 and "is a verification file" in printed


def test_list_whose_name_two_files_have_is_refused(crops, pack, tmp_path):
    shutil.copy(crops / "P 3" / "P 3_0002.jpg", crops / "P 3" / "P 3_0001.png")
    (tmp_path / "pairs.txt").write_text("1\t1\nP 3\t1\t5\nP 3\t2\tP 11\t4\n")
    code, printed = pack(f"pairs={tmp_path / 'pairs.txt'}", f"out={tmp_path / 'own.bin'}")
    assert code == 2 and "P 3/P 3_0001 may be P 3/P 3_0001.jpg or P 3/P 3_0001.png; rename one" in printed
    (tmp_path / "own.csv").write_text("path1,path2,is_same\nP 3/P 3_0001.png,P 3/P 3_0001.jpg,0\n")
    for more in ("P 3_0001.jpg.png", "P 3_0001.jpg.bmp"):  # a whole name is that of one file
        assert pack(f"pairs={tmp_path / 'own.csv'}", f"out={tmp_path / more}.bin")[0] == 0
        shutil.copy(crops / "P 3" / "P 3_0002.jpg", crops / "P 3" / more)
    assert pack(f"pairs={tmp_path / 'own.csv'}", f"out={tmp_path / 'own.bin'}")[0] == 0
    assert (tmp_path / "own.bin").read_bytes() == (tmp_path / "P 3_0001.jpg.png.bin").read_bytes()


def test_photo_that_a_table_lists_twice_makes_no_pair(crops, pack, tmp_path):
    lines = [f"P 3/P 3_000{number}.jpg,P 3" for number in (1, 2, 1)]
    (crops / "table.csv").write_text("\n".join(["path,identity", *lines, "P 4/P 4_0001.jpg,P 4", ""]))
    (tmp_path / "own.csv").write_text("path1,path2,is_same\nP 3/P 3_0001.jpg,P 3/P 3_0002.jpg,1\n")
    given = [f"data.root={crops / 'table.csv'}", f"pairs={tmp_path / 'own.csv'}", f"out={tmp_path / 'own.bin'}"]
    code, printed = pack(*given)
    assert code == 2 and f"P 3/P 3_0001.jpg has two lines in {crops}/table.csv; expected one" in printed


def test_what_is_no_crop_is_left_out_where_asked_and_listed(crops, pack, tmp_path):
    (crops / "P 0" / "P 0_0002.jpg").write_bytes(b"no image")
    code, printed = pack()
    assert code == 2 and "P 0_0002.jpg: 8 bytes that do not decode" in printed and "Traceback" not in printed
    code, printed = pack("on_corrupt=skip")
    assert code == 0 and "59 images of 12 identities" in printed
    assert "left out     1 in total, listed in" in printed
    assert (tmp_path / "out" / "rejected.csv").read_text().count("P 0_0002.jpg") == 2  # the path, and in the reason
    assert len(open_source(str(tmp_path / "out"))) == 59


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["pairs=auto"], "pairs=auto and split.val_identities=... go together"),
        (["split.val_identities=0.1"], "pairs=auto and split.val_identities=... go together"),
        (["split.val_identities=12", "pairs=auto"], "split.val_identities=12 of 12 identities"),
        (
            ["split.val_identities=2", "pairs=auto", "auto_pairs.num_positive=21"],
            "error: auto_pairs.num_positive=21, but",
        ),
        (["pairs=nowhere.txt", "out=x.bin"], "nowhere.txt: cannot be read"),
        (["pairs=nowhere.txt"], "pairs=nowhere.txt makes a verification set; give it a name such as lfw.bin"),
        (["on_corrupt=ignore"], "on_corrupt=ignore; expected error or skip"),
        (["num_threads=0"], "num_threads=0; expected 1 or more"),
        (["seed=-1"], "seed=-1; expected 0 or more"),
        (["seed=1"], "seed=1: only pairs=auto draws pairs; remove seed"),
        (["pairs=l.csv", "out=x.bin", "on_corrupt=skip"], "no training set; remove on_corrupt"),
        (["pairs=l.csv", "out=x.bin", "auto_pairs.num_positive=9"], "remove auto_pairs.num_positive"),
        (["split.val_identities=2", "pairs=auto", "auto_pairs.device=cpu"], "remove auto_pairs.device"),
        (["split.val_identity=3"], "val_identity"),
        (["data.root=/nowhere"], "/nowhere: there is no such folder"),
    ],
)
def test_what_cannot_work_is_refused(given, message, crops, pack, tmp_path):
    code, printed = pack(*given)
    assert code == 2 and message in printed and "Traceback" not in printed and printed.count("error: ") == 1
    assert not (tmp_path / "out").exists()


def test_place_that_cannot_be_is_refused(crops, pack, tmp_path):
    code, printed = pack(f"out={crops / 'packed'}")
    assert code == 2 and f"is inside {crops}, where every folder is an identity" in printed
    assert not (crops / "packed").exists()
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/inside"):
        code, printed = pack(f"out={tmp_path / out}")
        assert code == 2 and f"{tmp_path / out}: the folder cannot be made" in printed and "Traceback" not in printed
    (tmp_path / "own.csv").write_text("path1,path2,is_same\nP 3/P 3_0001.jpg,P 3/P 3_0002.jpg,1\n")
    code, printed = pack(f"pairs={tmp_path / 'own.csv'}", f"out={tmp_path / 'file' / 'own.bin'}")
    assert code == 2 and "file: the folder cannot be made" in printed and "Traceback" not in printed
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_passed_over_is_told(crops, pack, command, tmp_path):
    shutil.copytree(crops / "P 1", crops / "P 0" / "more")
    code, printed = pack()
    assert code == 0 and "60 images of 12 identities" in printed
    assert printed.count("note ") == 1 and f"one file or folder passed over, as {crops}/P 0/more: a folder" in printed
    code, printed = command("inspect", f"data.root={crops}", f"out={tmp_path / 'report'}")
    assert code == 0 and f"passed over  1 files and folders were not read, such as {crops}/P 0/more: a fold" in printed
    assert (tmp_path / "report" / "notes.csv").read_text().splitlines()[1].startswith(f"passed over,{crops}/P 0/more,")


def test_list_of_what_is_left_out_is_there_before_the_set(crops, pack, tmp_path):
    (crops / "P 1" / "P 1_0001.jpg").write_bytes(b"no image")
    (tmp_path / "out" / "rejected.csv" / "in the way").mkdir(parents=True)
    code, printed = pack("on_corrupt=skip")
    assert code == 2 and "rejected.csv: Is a directory" in printed and "Traceback" not in printed
    assert not (tmp_path / "out" / "train.rec").exists()


def test_next_command_can_be_typed_whatever_the_folder_is_called(crops, pack, tmp_path):
    code, printed = pack(f"""out="{tmp_path}/a, (b)/it's" """.strip())
    assert code == 0, printed
    (*_, typed) = shlex.split(printed.splitlines()[-1])
    assert [one.value() for one in parse_overrides([typed])] == [f"{tmp_path}/a, (b)/it's"]


def test_failure_leaves_nothing_that_blocks_a_repetition(crops, pack, tmp_path):
    spoilt = crops / "P 11" / "P 11_0005.jpg"
    whole = spoilt.read_bytes()
    spoilt.write_bytes(b"no image")
    given = ["split.val_identities=0.25", "pairs=auto", "seed=1"]
    code, printed = pack(*given)
    assert code == 2 and "P 11_0005.jpg: 8 bytes that do not decode" in printed
    assert not (tmp_path / "out").exists()
    spoilt.write_bytes(whole)
    assert pack(*given)[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "train.rec", "train.idx", "property", "train.lst", "identities.csv", "val.bin",
    }  # fmt: skip


@pytest.mark.parametrize("num_bytes", [1_000, 20_000, 100_000])
def test_disk_that_is_full_is_one_error_and_leaves_nothing(num_bytes, crops, tmp_path):
    out = tmp_path / "out"
    overrides = [f"data.root={crops}", f"out={out}", "split.val_identities=2", "pairs=auto"]
    ended = subprocess.run(
        [sys.executable, "-m", "facerec", "pack", *overrides],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes)),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert ended.stderr.count("error: ") == 1 and f"error: {out}/" in ended.stderr and "File too large" in ended.stderr
    assert not out.exists()


def test_pairs_of_images_that_are_not_there_are_named(crops, pack, tmp_path):
    (tmp_path / "own.csv").write_text("path1,path2,is_same\nP 0/P 0_0001.jpg,P 0/nowhere.jpg,1\n")
    code, printed = pack(f"pairs={tmp_path / 'own.csv'}", "out=x.bin")
    assert code == 2 and "1 of its 2 images are not in" in printed and "P 0/nowhere.jpg" in printed


def test_several_sets_are_packed_into_one(crops, pack, tmp_path):
    assert pack("split.val_identities=4", "pairs=auto")[0] == 0  # 8 people in `out`, with their names
    roots = f"data.root=[{tmp_path / 'crops'},{tmp_path / 'out'}]"
    code, printed = pack(roots, f"out={tmp_path / 'apart'}")
    assert code == 0 and "100 images of 20 identities" in printed
    code, printed = pack(roots, "data.merge=by_name", f"out={tmp_path / 'merged'}")
    assert code == 0 and "100 images of 12 identities" in printed
    main([
        "train", "data=on_disk", roots, "data.merge=by_name", f"run_dir={tmp_path / 'run'}", "eval.sets=[]",
        "data.global_batch_size=4", "backbone.width_multiplier=0.25", "neck.embedding_dim=16", "trainer.device=cpu",
        "trainer.num_steps=1", "trainer.num_threads=1", "loader.num_workers=1",
        "logging.tensorboard=false",
    ])  # fmt: skip
    assert "100 images of 12 identities" in (tmp_path / "run" / "log.txt").read_text()
    for given, message in (
        ([roots, "pairs=x.txt", "out=x.bin"], "names the files of one set; data.root has 2"),
        (["data.merge=by_name"], "data.merge=by_name is for several sets"),
        ([roots, "data.merge=both"], "data.merge='both' is text; expected one of 'none', 'by_name'"),
        (["data.root=[]"], "expected two or more sets"),
    ):
        code, printed = pack(*given)
        assert code == 2 and message in printed and "Traceback" not in printed, printed


def test_set_that_is_there_is_not_touched(crops, pack, tmp_path):
    assert pack()[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    code, printed = pack("split.val_identities=3", "pairs=auto")
    assert code == 2 and "train.rec already exists" in printed
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_images_alone_are_packed_in_im2rec_s_layout(crops, pack, tmp_path):
    code, printed = pack("layout=im2rec")
    assert code == 0, printed
    code, _ = pack(f"out={tmp_path / 'insightface'}")
    alone, other = open_source(str(tmp_path / "out")), open_source(str(tmp_path / "insightface"))
    reader = RecordReader(rec=tmp_path / "out" / "train.rec", idx=tmp_path / "out" / "train.idx")
    assert len(reader) == len(alone) == 60 and reader.key(0) == 0  # every record is an image
    assert all(len(reader.record(row).labels) == 1 and reader.record(row).image for row in range(60))
    assert alone.labels.tolist() == other.labels.tolist() and alone.identities == other.identities
    assert [alone.encoded(index) for index in range(60)] == [other.encoded(index) for index in range(60)]
    code, printed = pack("layout=tfrecord")
    assert code == 2 and "layout=tfrecord; expected insightface or im2rec" in printed
