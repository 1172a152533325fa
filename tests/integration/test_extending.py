"""The ten parts that docs/extending.md builds in a user's own package: its text as printed, each part really used."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

import facerec
from facerec.align.crops import align_crop
from facerec.cli.config.compose import compose
from facerec.cli.main import main
from facerec.core.file_hash import sha256_of
from facerec.data.augment import Augment
from facerec.data.sources import open_source
from facerec.runs.run_log import read_metrics
from tests.extending_page import FILES, PAGE, write_lab
from tests.integration.training_runs import SIZE_PX, TINY, state_tensors, write_faces

NUM_STEPS = 20
CHOICES = [
    "head=sine_squared", "backbone=plain", "backbone.width=8", "neck=pooled", "loss=[norm]", "schedule=inverse_root",
    "optimizer=nadam", "optimizer.lr=0.003", "data=array", "augment=hazy", "eval/benchmarks=[gallery]",
]  # fmt: skip
NOT_OWN = ("data=", "data.root", "backbone.width_multiplier", "optimizer.lr", "neck.dropout", "schedule.warmup_epochs")


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Path:
    """The page's package on the path, its YAML in conf, and a set as an .npz; commands run in this folder."""
    write_lab(tmp_path)
    write_faces(tmp_path / "faces")
    source = open_source(str(tmp_path / "faces"))
    images = np.stack([source.image(index) for index in range(len(source))])
    np.savez(tmp_path / "faces.npz", images=images, names=np.array([f"person {label}" for label in source.labels]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def overrides(lab: Path, *more: str) -> list[str]:
    """A short training of all parts of the page."""
    short = [one for one in TINY if not one.startswith(NOT_OWN)]
    chosen = [*CHOICES, f"data.root={lab / 'faces.npz'}", f"eval.benchmarks.gallery.root={lab / 'faces'}"]
    return [*short, *chosen, f"trainer.num_steps={NUM_STEPS}", f"run_dir={lab / 'runs' / 'mine'}", *more]


def run(capsys, verb: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a verb with the folder's configuration."""
    code = 0
    try:
        main([verb, "--config-dir", "conf", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_page_has_ten_parts_each_under_forty_lines_with_the_headings_that_messages_name():
    code = {name: len(text.splitlines()) for name, text in FILES.items() if name.endswith(".py")}
    assert len(code) == len(FILES) - len(code) == 10 and max(code.values()) < 40
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)[1:]
    assert headings == [
        "Head", "Backbone", "Neck", "Loss term", "Schedule",
        "Optimizer", "Source", "Transform", "Evaluator", "Detector",
    ]  # fmt: skip


def test_parts_of_the_page_train_together_and_are_evaluated_with_trust(lab, capsys):
    code, out, err = run(capsys, "train", *overrides(lab))
    assert code == 0, out + err
    run_dir = lab / "runs" / "mine"
    lines = [line for line in read_metrics(run_dir / "metrics.jsonl") if "train/loss" in line]
    angles = [line["train/target_angle_deg"] for line in lines]
    assert len(lines) == NUM_STEPS and sum(angles[-5:]) < sum(angles[:5]) - 10
    rates = [0.003 * (1 + step / 1000) ** -0.5 for step in range(NUM_STEPS)]
    assert [line["train/lr"] for line in lines] == pytest.approx(rates)
    for line in lines:
        assert line["train/loss"] == pytest.approx(line["train/softmax"] + 0.1 * line["train/term/norm"], rel=1e-5)
    result = json.loads((run_dir / "result.json").read_text())
    assert 0 < result["metrics"]["eval/gallery/rank1"] <= 1
    assert json.loads((run_dir / "run.json").read_text())["data_fingerprint"] == sha256_of(lab / "faces.npz")

    checkpoint = run_dir / "checkpoints" / f"step-{NUM_STEPS:08d}"
    card = json.loads((checkpoint / "model.json").read_text())
    assert card["backbone"] == {"class": "mylab.plain_net.PlainNet", "arguments": {"width": 8, "num_stages": 4}}
    assert card["neck"]["class"] == "mylab.pooled_neck.PooledNeck"
    assert any(name.endswith("mu_product") for name in state_tensors(checkpoint)), "NAdam's own state is stored"

    (printed,) = re.findall(r"^next +.*?(evaluate .*)$", out, re.MULTILINE)
    words = shlex.split(printed)
    assert words[1:5] == ["--config-dir", "conf", f"model={run_dir}", "trust=mylab"]
    forget()
    code, out, err = run(capsys, words[0], *words[3:], "device=cpu")
    assert code == 0, out + err
    stored = json.loads((run_dir / "evaluation.json").read_text())
    assert stored["metrics"] == pytest.approx(result["metrics"], abs=1e-6)
    assert "untrained network" in out

    forget()
    code, _, err = run(capsys, "evaluate", f"model={run_dir}", "device=cpu", "sets=[]")
    assert code == 2 and "its backbone is mylab.plain_net.PlainNet(width=8, num_stages=4)" in err
    assert "give trust=mylab" in err and not any(name.startswith("mylab") for name in sys.modules)

    code, out, err = run(capsys, "train", *overrides(lab, f"trainer.num_steps={NUM_STEPS + 2}"))
    assert code == 0 and f"step {NUM_STEPS} of {NUM_STEPS + 2}" in out + err, "it goes on with its own parts"
    new = [f"run_dir={lab / 'runs' / 'new'}", f"init_from={run_dir}", "trainer.num_steps=1"]
    code, _, err = run(capsys, "train", *overrides(lab, *new))
    assert code == 2 and "give trust=mylab" in err
    code, out, err = run(capsys, "train", *overrides(lab, *new, "trust=mylab"))
    assert code == 0 and "tensors taken" in out + err, out + err


def test_own_network_embeds_through_load(lab, capsys):
    code, out, err = run(capsys, "train", *overrides(lab, "trainer.num_steps=1"))
    assert code == 0, out + err
    forget()
    model = facerec.load(str(lab / "runs" / "mine"), device="cpu", trust="mylab")
    assert model.embed(np.zeros((2, SIZE_PX, SIZE_PX, 3), np.uint8)).shape == (2, 32)


def test_transform_of_the_page_lightens_and_repeats_itself(lab):
    config = compose("train", ["augment=hazy"], "conf")
    arguments = OmegaConf.to_container(config.augment)
    assert arguments.pop("_target_") == "facerec.data.augment.Augment"
    arguments["transforms"][1]["mylab.haze.Haze"]["p"] = 1.0
    augment, again = Augment(**arguments), Augment(**arguments)
    augment.check(height_px=SIZE_PX, width_px=SIZE_PX)
    black = np.zeros((SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    greys = [int(augment(black, seed=1, position=position).max()) for position in range(8)]
    assert len(set(greys)) > 4 and 0 < max(greys) <= 0.4 * 220
    assert greys[::-1] == [int(again(black, seed=1, position=position).max()) for position in range(7, -1, -1)]


def test_detector_of_the_page_aligns_a_photo(lab, capsys):
    photo = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    (lab / "photos" / "anna").mkdir(parents=True)
    cv2.imwrite(str(lab / "photos" / "anna" / "1.png"), photo[..., ::-1])
    code, out, err = run(capsys, "align", "detector=booth", "photos=photos", "out=crops", "format=png")
    assert code == 0, out + err
    (crop,) = (lab / "crops").glob("anna/*.png")
    shares: list = OmegaConf.to_container(compose("align", ["detector=booth", "out=crops"], "conf").detector.landmarks)
    landmarks = np.array(shares) * [400, 300]
    assert np.array_equal(cv2.imread(str(crop))[..., ::-1], align_crop(photo, landmarks))
    (row,) = csv.DictReader((lab / "crops" / "landmarks.csv").open())
    assert float(row["x1"]) == pytest.approx(168.0)
    changed = "detector.landmarks=[[0.4,0.42],[0.58,0.42],[0.5,0.51],[0.44,0.61],[0.56,0.61]]"
    code, out, err = run(capsys, "align", "detector=booth", changed, "photos=photos", "out=crops", "format=png")
    assert "before" not in out, "crops of another detector are not kept"


WRONG = {
    "backbone": (
        "mylab/plain_net.py",
        [("output_size(self, height_px: int, width_px: int)", "output_size(self, side_px: int)"),
         ("        self.arguments = {", "        self.given = {"), ("self.out_channels", "self.num_channels")],
        "backbone: mylab.plain_net.PlainNet cannot serve as a backbone: it has no out_channels and no arguments; "
        "output_size(side_px) cannot be called as output_size(height_px, width_px). docs/extending.md#backbone",
    ),
    "neck": (
        "mylab/pooled_neck.py", [(".mean(dim=(2, 3))", ".mean(dim=2)")],
        "neck: mylab.pooled_neck.PooledNeck cannot serve as a neck: forward fails on an input of shape (2, 64, 2, 2)",
    ),
    "head": (
        "mylab/sine_squared.py", [("cos_target_B: torch.Tensor)", "cos_target_B: torch.Tensor, extra: int)")],
        "head: mylab.sine_squared.SineSquaredHead cannot serve as a head: negatives(cos_BC, cos_target_B, extra) "
        "cannot be called as negatives(cos_BC, cos_target_B). docs/extending.md#head",
    ),
    "head shape": (
        "mylab/sine_squared.py",
        [("return cos_B - self", "return (cos_B - self"), ("cos_B**2)\n", "cos_B**2)).mean()\n")],
        "head: mylab.sine_squared.SineSquaredHead cannot serve as a head: target(cos_B, norm_B) returns () for (2,)",
    ),
    "loss": (
        "mylab/norm_term.py",
        [("def forward(", "def compute("), ("super().__init__(weight=weight)", "torch.nn.Module.__init__(self)")],
        "loss.norm: mylab.norm_term.NormTerm cannot serve as a loss term: it has no weight and no forward(inputs). "
        "docs/extending.md#loss-term",
    ),
    "schedule": (
        "mylab/inverse_root.py",
        [("class InverseRoot(WarmUp)", "class InverseRoot"), ("super().__init__(", "super().__init__(); dict(")],
        "schedule: mylab.inverse_root.InverseRoot cannot serve as a schedule: it has no factor(step, num_steps=, "
        "steps_per_epoch=). docs/extending.md#schedule",
    ),
    "schedule value": (
        "mylab/inverse_root.py", [("** -0.5", "* -0.5")],
        "schedule: mylab.inverse_root.InverseRoot cannot serve as a schedule: factor(0, num_steps=100, "
        "steps_per_epoch=10) returns -0.5; expected a number, 0 or more",
    ),
    "optimizer": (
        "mylab/nadam.py", [("def build(", "def make(")],
        "optimizer: mylab.nadam.NAdam cannot serve as an optimizer: it has no build(parameters). "
        "docs/extending.md#optimizer",
    ),
    "optimizer groups": (
        "mylab/nadam.py", [("self.groups(parameters)", "[one for _, one in parameters]")],
        "optimizer: mylab.nadam.NAdam cannot serve as an optimizer: the groups of what build returns lack names",
    ),
    "source": (
        "mylab/array_source.py", [("def fingerprint(", "def digest("), ("    def name(self", "    def title(self")],
        "data.source: mylab.array_source.ArraySource cannot serve as a source: it has no fingerprint() and no "
        "name(index). docs/extending.md#source",
    ),
    "source values": (
        "mylab/array_source.py",
        [("lambda self: self._arrays[2])", "lambda self: self._arrays[2] + 1)"), ("[0][index]", "[0][index] / 255")],
        "labels holds 1 .. 6; num_classes=6 promises 0 .. 5; image(0) is float64 (32, 32, 3); expected uint8 (32, 32, ",
    ),
    "transform": (
        "mylab/haze.py", [("image: np.ndarray, random: np.random.Generator", "image: np.ndarray")],
        "augment.transforms[1]: mylab.haze.Haze cannot serve as a transform: __call__(image) cannot be called as "
        "__call__(image, random). docs/extending.md#transform",
    ),
    "transform result": (
        "mylab/haze.py", [(".astype(np.uint8)", "")],
        "augment.transforms[1] (mylab.haze.Haze) makes float64 (32, 32, 3) of a crop of uint8 (32, 32, 3)",
    ),
    "evaluator": (
        "mylab/gallery.py", [("def evaluate(self, embed: Embedder)", "def score(self, embed: Embedder)"),
                             ("self.root, self.name = root, name", "self.root = root")],
        "eval.benchmarks.gallery: mylab.gallery.GalleryBenchmark cannot serve as an evaluator: it has no name and no "
        "evaluate(embed). docs/extending.md#evaluator",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_part_is_one_message_before_the_first_step(lab, capsys, kind):
    file, changes, message = WRONG[kind]
    text = (lab / file).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (lab / file).write_text(text)
    code, _, err = run(capsys, "train", *overrides(lab))
    assert code == 2 and message in err and err.count("error: ") == 1 and "Traceback" not in err, err
    assert not (lab / "runs" / "mine" / "metrics.jsonl").exists()


def test_wrong_detector_is_one_message_before_the_first_crop(lab, capsys):
    file = lab / "mylab" / "booth.py"
    (lab / "photos").mkdir()
    cv2.imwrite(str(lab / "photos" / "1.png"), np.zeros((40, 40, 3), np.uint8))
    right = file.read_text()
    for old, new, message in (
        ("scores=np.ones(1)", "scores=np.ones((1, 1))", "scores of its Faces has the shape (1, 1); expected (1,)"),
        ("self._faces(*photo.shape[:2])", "photo", "it returns 1 results for one photo"),
        ("def __call__(self, photos: Sequence[np.ndarray])", "def find(self, photos)", "it has no __call__(photos)"),
    ):
        file.write_text(right.replace(old, new))
        forget()
        code, _, err = run(capsys, "align", "detector=booth", "photos=photos", "out=crops")
        assert code == 2 and message in err and "detector: mylab.booth.BoothDetector cannot serve" in err
        assert "docs/extending.md#detector" in err and not list(lab.glob("crops/**/*.jpg"))


def test_options_hold_their_own_keys_and_inherit_the_others(lab):
    config = compose("train", [*CHOICES, "data.root=x.npz", "eval.benchmarks.gallery.root=x", "head.scale=32"], "conf")
    assert (config.head.scale, config.head.learn_scale, config.head.num_sub_centres) == (32, False, 1)
    assert "beyond_pi" not in config.head, "this head does not take it"
    assert (config.neck.embedding_dim, config.neck.dropout, config.head.embedding_dim) == (512, 0.0, 512)
    assert "height_px" not in config.backbone and config.backbone.width == 8
    assert (config.loss.norm.length, config.loss.norm.weight) == (10.0, 0.1), "the constructor's own default"
    assert (config.schedule.warmup_steps, config.schedule.warmup_epochs) == (None, None)
    assert config.optimizer.lr_factors == {"backbone": 1.0, "neck": 1.0, "head": 1.0} and config.optimizer.lr == 0.003
    assert (config.optimizer.weight_decay, config.optimizer.fused_centres) == (0.0005, False)
    assert config.data.source == {"_target_": "mylab.array_source.ArraySource", "root": "x.npz"}
    assert (config.data.global_batch_size, config.data.sampling, config.data.first_samples) == (128, "images", None)
    assert config.augment._target_ == "facerec.data.augment.Augment" and config.augment.on_device == []


def test_group_of_a_run_without_own_options_is_as_before(lab):
    choices = ["head=cosface", "loss=[intra]"]
    assert compose("train", choices, "conf") == compose("train", choices)
