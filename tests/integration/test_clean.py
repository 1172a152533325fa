"""`facerec clean`: from a set with known faults to proposals, as edited to a set that trains, and what it refuses."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.analysis.proposals import Proposal
from facerec.cli.main import main
from facerec.cli.verbs.clean import _tell
from facerec.data.sources import open_source

NUM_IDENTITIES, PER_IDENTITY = 12, 8
MOVED = {("03", 2): "07", ("05", 6): "01", ("09", 1): "02"}
"""(identity, number) -> the folder that the image lies in."""


@pytest.fixture
def crops(tmp_path) -> Path:
    """Patterns with noise, one for each identity; three in the folder of another, one of them twice."""
    rng = np.random.default_rng(4)
    patterns = rng.integers(0, 200, (NUM_IDENTITIES, 7, 7, 3), dtype=np.uint8)
    for identity in range(NUM_IDENTITIES):
        for number in range(PER_IDENTITY):
            coarse = patterns[identity] + rng.integers(0, 56, (7, 7, 3), dtype=np.uint8)
            folder = MOVED.get((f"{identity:02d}", number), f"{identity:02d}")
            path = tmp_path / "crops" / folder / f"{identity:02d}_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", cv2.resize(coarse, (112, 112)))[1].tobytes())
    photo = cv2.imread(str(tmp_path / "crops" / "04" / "04_3.jpg"))
    cv2.imwrite(str(tmp_path / "crops" / "04" / "04_9.jpg"), photo[:, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    (tmp_path / "crops" / "08" / "08_5.jpg").write_bytes(b"no image")
    return tmp_path / "crops"


@pytest.fixture
def model(crops, tmp_path) -> Path:
    """As drawn from the seed, all but: patterns as plain as these are told apart by any network."""
    run_dir = tmp_path / "run"
    main([
        "train", "data=on_disk", f"data.root={crops}", f"run_dir={run_dir}", "data.global_batch_size=4",
        "backbone.width_multiplier=0.25", "neck.embedding_dim=32", "trainer.num_steps=1",
        "trainer.num_threads=1", "trainer.device=cpu", "loader.num_workers=0", "logging.tensorboard=false",
        "optimizer.lr=1e-6", "loader.on_corrupt=skip",
    ])  # fmt: skip
    return run_dir


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_faults_are_proposed_and_what_a_person_leaves_of_them_is_applied(crops, model, command, tmp_path):
    out = tmp_path / "cleaning"
    look = ("clean", f"data.root={crops}", f"out={out}")
    code, printed = command(*look, f"model={model}", "device=cpu", "batch_size=16")
    assert code == 0, printed
    assert f"searched     {NUM_IDENTITIES * PER_IDENTITY + 1} images of 12 identities" in printed
    assert "mislabelled  3 images that look like another identity, of 3 identities\n" in printed
    assert "one_person   0 identities that are the same person as another\n" in printed
    rows = rows_of(out / "proposals.csv")
    of_kind = {
        kind: [row for row in rows if row["kind"] == kind] for kind in ("unreadable", "mislabelled", "duplicate")
    }
    assert [Path(row["path"]).name for row in of_kind["unreadable"]] == ["08_5.jpg"]
    found = {Path(row["path"]).stem: (row["identity"], row["to"]) for row in of_kind["mislabelled"]}
    assert found == {f"{identity}_{number}": (folder, identity) for (identity, number), folder in MOVED.items()}
    assert [Path(row["path"]).name for row in of_kind["duplicate"]] in (
        ["04_3.jpg"],
        ["04_9.jpg"],
    )  # the one that fits worse
    assert len(rows) == 5 and (out / "mislabelled.png").exists() and (out / "duplicate.png").exists()

    pictures = {path.name for path in out.glob("*.png")}
    (crops / "05" / "05_4.jpg").rename(tmp_path / "away.jpg")
    code, printed = command(*look, "apply=true")
    assert code == 2 and "was not written for this set" in printed and not (out / "cleaned").exists()
    (tmp_path / "away.jpg").rename(crops / "05" / "05_4.jpg")

    # one wrong image goes to where it belongs, the duplicate stays
    edited = [row for row in rows if row["kind"] != "duplicate"]
    next(row for row in edited if row["path"].endswith("03_2.jpg"))["action"] = "move"
    with (out / "proposals.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(edited)
    code, printed = command(*look, f"model={model}", "device=cpu")
    assert code == 2 and "proposals.csv has been edited; another search would replace it" in printed
    assert {path.name for path in out.glob("*.png")} == pictures
    code, printed = command(*look, "apply=true")
    assert code == 0 and "94 of 97 images, 12 identities (12 before)" in printed, printed
    cleaned = open_source(str(out / "cleaned"))
    with (out / "cleaned" / "train.lst").open() as lines:
        names = [Path(line.split("\t")[1]).stem for line in lines]
    assert len(cleaned) == 94
    assert [int(name[:2]) for name in names] == cleaned.labels.tolist()  # everyone is among his own
    assert "03_2" in names and "05_6" not in names and "08_5" not in names and "04_9" in names
    code, printed = command(*look, "apply=true")
    assert code == 2 and "already exists" in printed


def test_a_second_look_embeds_nothing_anew_and_another_threshold_finds_less(crops, model, command, tmp_path):
    look = ("clean", f"data.root={crops}", f"out={tmp_path / 'c'}", f"model={model}", "device=cpu")
    command(*look)
    written = (tmp_path / "c" / "embeddings.npy").stat().st_mtime_ns
    code, printed = command(*look, "min_correlation=1", "pictures=0", f"against=[{crops}]")
    assert code == 2 and "08_5.jpg" in printed  # as a benchmark it must be whole
    (crops / "08" / "08_5.jpg").unlink()
    for (identity, number), folder in MOVED.items():  # whose true identities would look like strangers' too
        (crops / folder / f"{identity}_{number}.jpg").unlink()
    code, printed = command(*look, "min_correlation=1", "pictures=0")
    assert code == 0 and "duplicate    0" in printed
    assert (tmp_path / "c" / "embeddings.npy").stat().st_mtime_ns > written  # another set now
    written = (tmp_path / "c" / "embeddings.npy").stat().st_mtime_ns
    code, printed = command(*look, "pictures=5", f"against=[{crops}]")
    assert code == 0 and "in_benchmark 12" in printed
    sheet = cv2.imread(str(tmp_path / "c" / "in_benchmark.png"))
    assert sheet is not None and sheet.shape[0] > 5 * 112 and sheet.shape[1] > 9 * 112
    assert (tmp_path / "c" / "embeddings.npy").stat().st_mtime_ns == written


def test_second_people_are_counted_by_the_names_they_lie_under(capsys):
    names = ["Ann", "Bo", "Ann", "Ann", "Cy", "Bo"]
    _tell([Proposal(kind="two_people", action="move", image=n, identity=name, score=1) for n, name in enumerate(names)])
    assert "two_people   6 images of a second person under one name, of 3 identities\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "model is not given; the search needs one"),
        (
            ["apply=true"],
            "proposals.csv: cannot be read (No such file or directory); run clean without apply=true first",
        ),
        (["model=nowhere"], "nowhere"),
        (["model=x", "min_score=0"], "min_score=0"),
        (["model=x", "batch_size=0"], "batch_size=0; expected 1 or more"),
        (["model=x", "modle=y"], "modle"),
        (["model=x", "seed=-1"], "seed=-1; expected 0 or more"),
        (["apply=true", "min_score=0.9"], "proposals.csv, and ignores the settings of the search; remove min_score"),
        (["apply=true", "model=x"], "remove model"),
        (["apply=true", "against=[a.bin]"], "remove against"),
    ],
)
def test_what_cannot_work_is_refused(overrides, says, command, tmp_path):
    (tmp_path / "crops" / "a").mkdir(parents=True)
    (tmp_path / "crops" / "b").mkdir()
    crop = cv2.imencode(".png", np.zeros((112, 112, 3), dtype=np.uint8))[1].tobytes()
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / "crops" / name).write_bytes(crop)
    code, printed = command("clean", f"data.root={tmp_path / 'crops'}", f"out={tmp_path / 'out'}", *overrides)
    assert code == 2 and says in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_place_that_cannot_be_is_refused(crops, command, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out, says in {
        tmp_path / "file": "the folder cannot be made",
        crops / "c": "every folder is an identity",
    }.items():
        code, printed = command("clean", f"data.root={crops}", f"out={out}", "model=x")
        assert code == 2 and says in printed and "Traceback" not in printed
    assert (tmp_path / "file").read_text() == "mine" and not (crops / "c").exists()
