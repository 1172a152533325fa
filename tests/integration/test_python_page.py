"""The programs of docs/python.md, exactly as printed."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import facerec
from tests.integration.training_runs import encoded_images

USE, TRAIN = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "python.md").read_text(), re.DOTALL
)


@pytest.fixture
def faces(tmp_path, monkeypatch) -> Path:
    """A folder with one folder of crops per person, in the folder in which the programs run."""
    for person, images in enumerate(encoded_images(seed=2, num_identities=8, per_identity=8)):
        (tmp_path / "faces" / str(person)).mkdir(parents=True)
        for number, image in enumerate(images):
            pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
            cv2.imwrite(str(tmp_path / "faces" / str(person) / f"{number}.png"), cv2.resize(pixels, (112, 112)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_program_of_the_page_trains_and_prints_the_protocol_on_arrays(faces, capsys):
    assert len(TRAIN.splitlines()) <= 35
    found: dict = {}
    exec(compile(TRAIN, "python.md", "exec"), found)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("%")]
    assert {"accuracy", "eer", "tar_at_far_1e-1", "tar_at_far_1e-2"} <= set(names)
    lines = (faces / "runs" / "python" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 30
    emb_ND = found["emb_ND"]
    assert emb_ND.shape == (64, 64) and np.isfinite(emb_ND).all()
    paths = sorted((faces / "faces").glob("*/*.png"))
    np.testing.assert_allclose(found["model"].embed(paths), emb_ND, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["model"].embed(str(paths[5])), emb_ND[5:6], rtol=1e-3, atol=1e-3)


def test_names_of_the_page_are_public():
    assert set(re.findall(r"facerec\.([A-Za-z_]+)", USE + TRAIN)) <= set(facerec.__all__)
