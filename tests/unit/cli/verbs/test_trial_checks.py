"""What the trials of a grid share is opened once, before the first starts; what differs, once for each value."""

import warnings
from collections import Counter
from pathlib import Path

import pytest

from facerec.cli.config.compose import compose
from facerec.cli.verbs import trial_checks
from facerec.cli.verbs.parts import build_network
from facerec.cli.verbs.trial_checks import check_trials
from facerec.core.errors import ConfigError, DataError, ModelError
from facerec.data.verification_file import write_pairs
from tests.integration.training_runs import encoded_images, tiny_overrides, write_faces
from tests.unit.networks.small_networks import write_model


@pytest.fixture
def faces(tmp_path) -> Path:
    return write_faces(tmp_path / "faces")


@pytest.fixture
def pairs(tmp_path) -> Path:
    images = [one for identity in encoded_images(seed=2, num_identities=20, per_identity=2) for one in identity]
    write_pairs(tmp_path / "fit.bin", images, [True, False] * 10)
    write_pairs(tmp_path / "unfit.bin", images, [True] * 10 + [False] * 10)
    return tmp_path


def trials(faces: Path, *trials: list[str]) -> list:
    return [compose("train", [*tiny_overrides(faces, Path("x")), *own]) for own in trials]


def test_each_set_network_and_benchmark_is_opened_once(faces, pairs, monkeypatch):
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        call = getattr(trial_checks, name)
        monkeypatch.setattr(trial_checks, name, lambda *given, **more: (calls.update([name]), call(*given, **more))[1])

    for name in ("open_data", "open_benchmarks", "build_network", "build_objective"):
        count(name)
    other = write_faces(faces.parent / "other", seed=4)
    sets = f"eval.sets=[{pairs / 'fit.bin'}]"
    half = ["trainer.num_steps=null", "trainer.num_epochs=0.5"]
    steps = check_trials(
        trials(
            faces,
            [sets, "seed=2"],
            [sets, "optimizer.lr=0.1"],
            [sets, f"data.root={other}", *half],
            ["backbone.width_multiplier=0.5"],
        )
    )
    assert steps == [24, 24, 3, 24]
    assert calls == {"open_data": 2, "open_benchmarks": 2, "build_network": 2, "build_objective": 3}


@pytest.mark.parametrize(
    ("own", "error", "says"),
    [
        (["eval.sets=[unfit.bin]"], DataError, "unfit.bin: 20 pairs .* a fold would hold one kind only"),
        (["data.root=nowhere"], DataError, "nowhere: there is no such folder"),
        (["head.num_classes=3"], ConfigError, "has 6 identities"),
        (["launch.processes=3"], ConfigError, "which 3 processes cannot share evenly"),
        (["init_from=nowhere"], ModelError, "init_from=nowhere: no such file"),
        (["data.first_samples=100"], DataError, "the set has 48"),
    ],
)
def test_what_one_trial_cannot_use_is_an_error_before_any(faces, pairs, own, error, says, monkeypatch):
    monkeypatch.chdir(pairs)
    with pytest.raises(error, match=says):
        check_trials(trials(faces, ["eval.sets=[fit.bin]"], own))
    assert sorted(path.name for path in pairs.iterdir()) == ["faces", "fit.bin", "unfit.bin"]


NET = """
from torch import nn

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.out_channels, self.arguments = 4, {}

    def output_size(self, height_px, width_px):
        return (height_px - 3) // 4 + 1, (width_px - 3) // 4 + 1

    def forward(self, images):
        return self.conv(images)
"""


def test_initial_weights_of_ones_own_network_are_opened_with_the_trust_of_the_trial(faces, tmp_path, monkeypatch):
    (tmp_path / "lab" / "triallab").mkdir(parents=True)
    (tmp_path / "lab" / "triallab" / "__init__.py").write_text(NET)
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    (tmp_path / "conf" / "backbone" / "plain.yaml").write_text("_target_: triallab.Plain\n")
    monkeypatch.syspath_prepend(tmp_path / "lab")
    tiny = [one for one in tiny_overrides(faces, Path("x")) if not one.startswith("backbone.")]

    def trial(*own: str):
        return compose("train", [*tiny, "backbone=plain", *own], tmp_path / "conf")

    stored = write_model(tmp_path / "model", build_network(trial()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_trials([trial(f"init_from={stored}", "trust=triallab")]) == [24]
    with pytest.raises(ModelError, match="no package is trusted"):
        check_trials([trial(f"init_from={stored}", "trust=triallab"), trial(f"init_from={stored}")])
