"""`facerec align model=`: the wrong person in a person's folder, found by the folder's other photos."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerec.cli.main import main
from tests.integration.training_runs import environment
from tests.unit.align.tiny_detectors import white_squares, write_yunet

PEOPLE = ["Ann", "Bob", "Cem", "Dee", "Eve", "Fay"]
LEFT, RIGHT = (32, 24), (112, 32)
OVERRIDES = ["detector.longest_side_px=160", "detector.refine=false", "num_threads=1"]


def write_photo(path: Path, faces: dict[tuple[int, int], str], rng: np.random.Generator) -> None:
    """Writes a black photo with faces: a square that the detector finds, on the coarse pattern of a person."""
    photo = np.zeros((96, 160, 3), dtype=np.uint8)
    for (x, y), person in faces.items():
        own = np.random.default_rng(PEOPLE.index(person)).integers(0, 130, (6, 6, 3), dtype=np.uint8)
        pattern = cv2.resize(own + rng.integers(0, 20, own.shape, dtype=np.uint8), (48, 48))
        photo[max(0, y - 16) : y + 32, x - 20 : x + 28] = pattern[max(0, 16 - y) :]
    photo = np.maximum(photo, white_squares(96, 160, *faces))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), photo)


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Path:
    """Six people with four photos each; Ann has a photo with Bob on its left, and Cem a photo of Dee."""
    root, rng = tmp_path_factory.mktemp("team"), np.random.default_rng(9)
    for person in PEOPLE:
        for number in range(4):
            write_photo(root / "photos" / person / f"{number}.png", {LEFT: person}, rng)
    write_photo(root / "photos" / "Ann" / "two.png", {LEFT: "Bob", RIGHT: "Ann"}, rng)
    write_photo(root / "photos" / "Cem" / "wrong.png", {LEFT: "Dee"}, rng)
    (root / "photos" / "Nobody").mkdir()
    write_yunet(root / "yunet.onnx")
    main(["align", f"photos={root}/photos", f"detector.weights={root}/yunet.onnx", f"out={root}/first", *OVERRIDES])
    main([
        "train", "data=on_disk", f"data.root={root}/first", f"run_dir={root}/run", "data.global_batch_size=4",
        "backbone.width_multiplier=0.25", "neck.embedding_dim=32", "trainer.num_steps=1",
        "trainer.num_threads=1", "trainer.device=cpu", "loader.num_workers=0", "logging.tensorboard=false",
        "optimizer.lr=1e-6",
    ])  # fmt: skip
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_of_several_faces_the_folders_person_is_taken_and_a_wrong_photo_is_named(team, command, tmp_path):
    given = ["align", f"photos={team}/photos", f"detector.weights={team}/yunet.onnx", *OVERRIDES]
    given += [f"model={team}/run", "device=cpu", f"out={tmp_path}/crops"]
    code, printed = command(*given)
    assert code == 0 and "aligned      26 of 26 faces" in printed, printed
    assert "; the model compared 1 and took another face in 1; listed in" in printed
    assert f"doubtful     1 crop looks unlike the other crops of the person; listed in {tmp_path}/crops/doub" in printed
    assert "1 folder without a photo ('Nobody'); listed in" in printed
    (several,) = rows(tmp_path / "crops" / "several_faces.csv")
    assert several["crop"] == "Ann/two.jpg" and float(several["box_x"]) == RIGHT[0] - 8
    assert float(several["cosine"]) > float(several["next_cosine"]) + 0.1
    (doubtful,) = rows(tmp_path / "crops" / "doubtful.csv")
    assert (doubtful["crop"], doubtful["like"]) == ("Cem/wrong.jpg", "Dee")
    assert (tmp_path / "crops" / "Cem" / "wrong.jpg").is_file()
    with_rule = cv2.imread(str(team / "first" / "Ann" / "two.jpg"))
    assert np.abs(with_rule.astype(int) - cv2.imread(str(tmp_path / "crops" / "Ann" / "two.jpg"))).mean() > 10
    code, printed = command(*given)
    assert code == 0 and "26 of 26 faces, 26 of them before" in printed and "another face in 1; listed" in printed
    code, printed = command(*[one for one in given if not one.startswith(("model", "device="))])
    assert code == 2 and "model.weights: " in printed and "no such setting now" in printed

    argv = [sys.executable, "-m", "facerec", *given[:-1], f"out={tmp_path}/two", "batch_size=2", "launch.processes=2"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.count("another face in 1; listed") == 1
    assert files_of(tmp_path / "two") == files_of(tmp_path / "crops")


def files_of(out: Path) -> dict[str, bytes]:
    """The crops and the tables for people, by name."""
    files = [path for path in out.rglob("*") if path.suffix in (".jpg", ".csv")]
    contents = {str(path.relative_to(out)): path.read_bytes() for path in files}
    assert len(contents) == 26 + 4
    return contents


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["photos=photos/Ann", "model=run"], "these photos are in no person's folder; remove model"),
        (["photos=photos", "model=run", "size=[112,96]"], "takes crops of 112 x 112 pixels, and size=[112, 96]; give"),
        (["photos=photos", "model=nowhere"], "nowhere"),
        (["photos=photos", "device=cpu"], "device=cpu: only a model uses it; remove device"),
    ],
)
def test_model_that_cannot_compare_is_refused_before_any_photo_is_read(given, says, team, command, monkeypatch):
    monkeypatch.chdir(team)
    code, printed = command("align", "detector.weights=yunet.onnx", "out=none", *given)
    assert code == 2 and says in printed and "Traceback" not in printed, printed
    assert not (team / "none").exists()
