"""The data bench: both loaders see the same crops, and what is printed is what was measured."""

import json

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from facerec.bench.data import OURS, THEIRS, SameCrops
from facerec.cli.main import main
from facerec.data.sources import RecordSource
from tests.noise_source import NoiseSource

SMALL = ["suite=data", "data=on_disk", "batch_size=8", "rounds=1", "num_images=12"]
SIZE = ["input.height_px=32", "input.width_px=32"]


def test_records_and_files_are_the_same_crops(tmp_path):
    source = NoiseSource(num_classes=3, images_per_class=4)
    crops = SameCrops(source, num_images=10, folder=tmp_path)
    records, files = RecordSource(root=str(crops.records)), ImageFolder(str(crops.files))
    assert len(records) == len(files) == crops.num_images == 10
    assert records.labels.tolist() == files.targets == [0] * 4 + [1] * 4 + [2] * 2
    for index in range(10):
        assert np.array_equal(records.image(index), np.asarray(files[index][0]))


def test_figures_are_of_both_loaders_and_their_parts(tmp_path, capsys):
    SameCrops(NoiseSource(num_classes=4, images_per_class=4), num_images=16, folder=tmp_path)
    main(["bench", *SMALL, *SIZE, f"data.root={tmp_path / 'records'}", f"out={tmp_path / 'figures.json'}"])
    printed = capsys.readouterr().out
    assert "12 crops" in printed and "augment (HorizontalFlip)" in printed and "time of each part" in printed
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["loaders"]) == {OURS, THEIRS} == set(figures["parts_us_per_image"])
    assert figures["loaders"][OURS]["us_per_image"] == pytest.approx(1e6 * figures["loaders"][OURS]["median_s"] / 8)
    assert set(figures["parts_us_per_image"][OURS]) == {"read", "decode", "augment", "batch"}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("batch_size=0", "batch_size=0; expected a whole number, 1 or more"),
        ("num_classes=[10]", "num_classes=[10]: suite=data does not read this key; it takes augment, batch_size"),
        ("head=cosface", "head=cosface: suite=data does not read this key"),
        ("augment.transforms=[{Flop: {}}]", "neither albumentations nor facerec has a transform 'Flop'"),
        ("augment=flip_on_device", "augment.on_device (HorizontalFlip): suite=data measures the loader"),
    ],
)
def test_what_it_does_not_take_is_refused(override, says, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *SMALL, "data.root=nowhere", override])
    assert stop.value.code == 2 and says in capsys.readouterr().err
