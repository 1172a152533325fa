"""Every file in configs/ composes, passes the checks of training and is built. The folder is walked, nothing is listed.

What the recipes are is pinned against the settings that arcface_torch and the ArcFace paper give, and each of them
makes an optimizer step: with a small network in every test run, and among the slow tests in full size, with its real
number of classes.
"""

import json
import logging
import math
import re
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from facerec.bench.step import WARM_UP_STEPS
from facerec.cli.config.arguments import build, check_config
from facerec.cli.config.compose import compose, config_directory
from facerec.cli.config.config_files import group_options
from facerec.cli.main import main
from facerec.cli.verb_list import VERBS
from facerec.cli.verbs import train
from facerec.core.log import LOGGER
from facerec.data.records.recordio import write_record_set
from facerec.data.verification_file import write_pairs
from facerec.heads.initial_loss import initial_loss
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import join
from facerec.runs.run_log import read_metrics

CONFIGS = config_directory()
FILES = [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in sorted(CONFIGS.rglob("*.yaml"))]
NEEDED = {  # overrides that an option waits for
    "loss/distillation": ["loss.distillation.teacher.path=/nowhere"],
    "eval/benchmarks/verification": ["eval.benchmarks.verification.path=/nowhere"],
}
PRIMARIES = [name for name in FILES if "/" not in name]
EXPERIMENTS = group_options("experiment", [CONFIGS], nested=True)
DATA_OPTION = {
    name: re.findall(r"override /data: (\w+)", (CONFIGS / "experiment" / f"{name}.yaml").read_text())
    for name in EXPERIMENTS
}
ON_DISK = [name for name, options in DATA_OPTION.items() if options and options != ["synthetic"]]
SET_OF = {name: DATA_OPTION[name][0] for name in ON_DISK if DATA_OPTION[name] != ["on_disk"]}
DEBUGS = group_options("debug", [CONFIGS], nested=True)
OPTIONS = [name for name in FILES if "/" in name and "/_" not in name and not name.startswith("experiment/")]
EXTRAS = {"backbone/timm": "timm"}  # options that need a package which a plain installation does not have

SMALL = ["input.height_px=32", "input.width_px=32", "backbone=iresnet18", "backbone.width_multiplier=0.25"]

# Peak of one step and its checkpoint, measured: 22 KB per class with SGD, 1.4 GB without any class.
BYTES_PER_CLASS, BYTES_OF_THE_REST, LARGEST_BYTES = 24_000, 2_000_000_000, 12_000_000_000


def test_the_walk_finds_the_configurations():
    assert {"train", "evaluate"} <= set(PRIMARIES)
    assert {"head/arcface", "backbone/iresnet50", "debug/one_step"} <= set(OPTIONS)
    assert {"casia_r50_arcface", "wf42m_vitb_cosface_pfc03"} <= set(EXPERIMENTS)
    assert SET_OF["casia_r50_arcface"] == "casia" and "finetune" in set(ON_DISK) - set(SET_OF)


@pytest.mark.parametrize("name", FILES)
def test_file_says_what_it_is_for(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert re.match(r"# \w", first), f"{name}.yaml begins with {first!r}; expected a comment: what it is for"


@pytest.mark.parametrize("name", PRIMARIES)
def test_primary_configuration_belongs_to_a_verb_and_passes_the_checks(name):
    assert name in VERBS
    check_config(compose(name, [], allow_missing=True))


def test_training_without_any_override_passes_the_checks_and_is_built():
    config = compose("train", [])
    train.check(config)
    build_parts(config, num_classes=10)


@pytest.mark.parametrize("name", OPTIONS)
def test_option_composes_with_train_and_is_built(name, tiny_set):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"the extra facerec[{EXTRAS[name]}] is not installed")
    group, _, option = name.rpartition("/")
    if group == "detector":  # a group of facerec align
        check_config(compose("align", [f"{group}={option}", "out=crops"]))
        return
    config = compose("train", [f"{group}={option}", f"data.root={tiny_set}", *NEEDED.get(name, ())])
    train.check(config)
    build_parts(config, num_classes=10)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_opens_with_its_command_and_its_figures(name):
    head = head_of(name)
    assert re.search(rf"^#   facerec train experiment={name}( |$)", head, re.MULTILINE)
    assert re.search(r"\bours: .", head, re.IGNORECASE), "the head has no line for the figures reached: 'ours: ...'"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_passes_the_checks_and_is_built(name, tiny_set):
    config = experiment(name, tiny_set)
    train.check(config)
    build_parts(config, num_classes=num_identities(name) or 10)
    check_schedule(config)
    for debug in DEBUGS:
        changes: Any = OmegaConf.load(CONFIGS / "debug" / f"{debug}.yaml")
        if config.head is None or config.head.get("scale") is None:
            changes.pop("head", None)  # a scale, which a softmax does not take
        changed: Any = OmegaConf.merge(config, changes)
        train.check(changed)
        check_batches(changed)


@pytest.mark.parametrize("name", SET_OF)
def test_recipe_expects_the_set_that_its_head_names(name, tiny_set):
    expected = experiment(name, tiny_set).data.expect
    option = SET_OF[name]
    assert expected == OmegaConf.load(CONFIGS / "data" / f"{option}.yaml").expect and expected.name == option
    assert expected.num_identities == num_identities(name)
    found = re.search(r"([\d,]+) images|([\d.]+)M images", head_of(name))
    if found[1]:
        assert expected.num_images == int(found[1].replace(",", ""))
    else:
        assert round(expected.num_images / 1e6, 1) == float(found[2])


def test_set_that_is_not_the_one_expected_is_refused_before_anything_is_made(tiny_set, tmp_path, capsys):
    run = ["train", f"data.root={tiny_set}", f"run_dir={tmp_path / 'run'}", "data.global_batch_size=8", *SMALL]
    for more, message in (
        (
            ["data=casia"],
            "data=casia expects 10572 identities and 490623 images, but the set at .* has 8 identities and 32",
        ),
        (["data=casia", "data.expect.num_identities=8"], "data=casia expects 490623 images, but the set"),
        (
            ["data=on_disk", "data.expect.num_images=31"],
            "data.expect expects 31 images, but the set at .* has 32 images",
        ),
    ):
        with pytest.raises(SystemExit) as refused:
            main([*run, *more])
        printed = capsys.readouterr().err
        assert refused.value.code == 2 and re.search(message, printed) and "Traceback" not in printed
        assert not (tmp_path / "run").exists()


def test_debug_option_has_the_last_word():
    config = compose("train", ["experiment=casia_r50_arcface", "data.root=/nowhere", "debug=overfit"])
    assert (config.trainer.num_steps, config.neck.dropout, config.data.global_batch_size) == (100, 0.0, 32)
    check_batches(config)


def test_option_on_the_command_line_stands_with_its_own_values_not_the_experiments():
    on_arcface = ["experiment=ms1mv3_r50_arcface", "data.root=/nowhere"]
    cosface = compose("train", [*on_arcface, "head=cosface"])
    assert (cosface.head.m2, cosface.head.m3) == (0.0, 0.35)
    assert compose("train", [*on_arcface, "head=cosface", "head.m3=0.2"]).head.m3 == 0.2
    assert cosface.optimizer == compose("train", on_arcface).optimizer
    assert "m2" not in compose("train", [*on_arcface, "head=adaface"]).head
    assert compose("train", [*on_arcface, "head=arcface", "debug=overfit"]).head.scale == 16.0


def test_option_that_the_experiment_chooses_too_keeps_the_experiments_values():
    demo = compose("train", ["experiment=demo", "head=arcface", "backbone=iresnet18"])
    assert (demo.head.m2, demo.head.scale, demo.backbone.width_multiplier) == (0.3, 32.0, 0.25)
    assert compose("train", ["experiment=demo", "head=arcface", "head.m2=0.4"]).head.m2 == 0.4


# What FACTS, section 5, says of each: batch, rate, weight decay, epochs (or steps), warm-up epochs, m2, m3, dropout.
SETTINGS = {
    "casia_r50_arcface": (512, 0.1, 5e-4, "32000 steps", None, 0.5, 0.0, 0.4),
    "ms1mv2_r100_arcface": (512, 0.1, 5e-4, "180000 steps", None, 0.5, 0.0, 0.4),
    "ms1mv3_r50_arcface": (1024, 0.1, 5e-4, 20, 0, 0.5, 0.0, 0.0),
    "ms1mv3_r100_arcface": (1024, 0.1, 5e-4, 20, 0, 0.5, 0.0, 0.0),
    "ms1mv3_r50_arcface_onegpu": (128, 0.02, 5e-4, 20, 0, 0.5, 0.0, 0.0),
    "ms1mv3_mbf_arcface": (1024, 0.1, 1e-4, 40, 0, 0.5, 0.0, 0.0),
    "glint360k_r100_cosface": (1024, 0.1, 1e-4, 20, 0, 0.0, 0.4, 0.0),
    "wf42m_r100_cosface_pfc02": (1024, 0.1, 5e-4, 20, 0, 0.0, 0.4, 0.0),
    "wf42m_r50_cosface_pfc02_bs8k": (8192, 0.6, 5e-4, 20, 4, 0.0, 0.4, 0.0),
    "wf42m_vitb_cosface_pfc03": (24576, 1e-3, 0.1, 40, 4, 0.0, 0.4, 0.0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_published_recipe_keeps_its_settings(name, tiny_set):
    config = experiment(name, tiny_set)
    length = config.trainer.num_epochs or f"{config.trainer.num_steps} steps"
    optimizer, head = config.optimizer, config.head
    assert (
        config.data.global_batch_size,
        optimizer.lr,
        optimizer.weight_decay,
        length,
        config.schedule.warmup_epochs if "power" in config.schedule else None,
        head.m2,
        head.m3,
        config.neck.dropout,
    ) == SETTINGS[name]
    assert (head.m1, head.scale, head.init_std, optimizer.decay_norms_and_biases) == (1.0, 64.0, 0.01, True)
    assert config.trainer.micro_batch_size == 128
    if "power" in config.schedule:
        assert (config.schedule.power, config.schedule.final_factor, config.trainer.clip_grad_norm) == (1.0, 0.0, 5.0)


@pytest.mark.parametrize(
    ("name", "drops"), [("casia_r50_arcface", (20_000, 28_000)), ("ms1mv2_r100_arcface", (100_000, 160_000))]
)
def test_recipes_of_the_paper_divide_the_rate_by_ten_twice(name, drops, tiny_set):
    config = experiment(name, tiny_set)
    num_steps, schedule = config.trainer.num_steps, build(config.schedule)
    steps = [0, drops[0] - 1, drops[0], drops[1] - 1, drops[1], num_steps - 1]
    rates = [config.optimizer.lr * schedule.factor(s, num_steps=num_steps, steps_per_epoch=958.2) for s in steps]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("name", ON_DISK)
def test_recipe_makes_a_step_with_a_small_network(name, tiny_set, tmp_path, logger):
    """The recipe's own precision, optimizer, schedule and clipping, with accumulation, through the command line."""
    main(["train", *one_step(name, tiny_set, tmp_path / "run"), *SMALL])
    assert_one_step_done(tmp_path / "run")


def debug_runs() -> list[Any]:
    """The debug options; those of many steps only among the slow tests."""
    steps = {name: OmegaConf.load(CONFIGS / "debug" / f"{name}.yaml").trainer.num_steps for name in DEBUGS}
    return [pytest.param(name, marks=[pytest.mark.slow] if steps[name] > 1 else []) for name in DEBUGS]


@pytest.mark.parametrize("name", debug_runs())
def test_debug_option_runs(name, tiny_set, tmp_path, logger):
    run_dir = tmp_path / "run"
    batch = [] if name == "overfit" else ["data.global_batch_size=8"]
    main(["train", f"debug={name}", *on(tiny_set, run_dir), *SMALL, *batch])
    losses = [line["train/loss"] for line in read_metrics(run_dir / "metrics.jsonl") if "train/loss" in line]
    assert math.isfinite(losses[-1])
    if name == "overfit":
        assert losses[-1] < 0.1 * losses[0]
    if name == "profile":
        assert json.loads((run_dir / "profile" / "trace.json").read_text())["traceEvents"]
        assert json.loads((run_dir / "profile" / "anatomy.json").read_text())["num_steps"] == 10 - WARM_UP_STEPS


def test_head_takes_more_classes_than_the_data_and_refuses_fewer(tiny_set, tmp_path, logger):
    overrides = [*on(tiny_set, tmp_path / "run"), "debug=one_step", "data.global_batch_size=4", *SMALL]
    with pytest.raises(SystemExit) as refused:
        main(["train", *overrides, "head.num_classes=7"])
    assert refused.value.code == 2
    main(["train", *overrides, "head.num_classes=1000"])
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert config.head.num_classes == 1000
    check_initial_loss(tmp_path / "run", num_classes=1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DISK)
def test_recipe_makes_a_step_in_full_size(name, tmp_path):
    """In a process of its own, with the number of identities that the head of the file names, where memory allows."""
    data = write_set(tmp_path / "data", size_px=112)
    num_classes = min(num_identities(name) or 10_000, (LARGEST_BYTES - BYTES_OF_THE_REST) // BYTES_PER_CLASS)
    needed = BYTES_OF_THE_REST + num_classes * BYTES_PER_CLASS
    if available_bytes() < needed:
        pytest.skip(
            f"{name} with {num_classes} classes needs {needed / 1e9:.1f} GB; {available_bytes() / 1e9:.1f} free"
        )
    overrides = [*one_step(name, data, tmp_path / "run"), f"head.num_classes={num_classes}"]
    if not torch.cuda.is_available():
        overrides.append("trainer.precision=fp32")  # convolutions in fp16 take minutes on most CPUs
    try:
        command = [sys.executable, "-m", "facerec", "train", *overrides]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        assert_one_step_done(tmp_path / "run")
        check_initial_loss(tmp_path / "run", num_classes=num_classes)
    finally:
        shutil.rmtree(tmp_path)  # some checkpoints have 2 GB


@cache
def experiment(name: str, root: Path) -> DictConfig:
    config = compose("train", [f"experiment={name}", f"data.root={root}"])
    if (
        config.head is not None and config.head.get("init") == "class_mean"
    ):  # of the embeddings of a model that is there
        config.init_from = "/nowhere"
    return config


def head_of(name: str) -> str:
    """The comment that an experiment opens with."""
    lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines()
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


def num_identities(name: str) -> int | None:
    """As the head of the experiment names it: "Data: 85,742 identities"."""
    found = re.search(r"([\d,]+) (?:identities|people)", head_of(name))
    return int(found[1].replace(",", "")) if found else None


def build_parts(config: DictConfig, *, num_classes: int) -> None:
    """Builds everything that training builds, the big parts on the meta device, and sends two images through."""
    spec = build(config.input)
    with torch.device("meta"):
        network = join(backbone=build(config.backbone), neck=partial(build, config.neck), input_spec=spec)
        head = None if config.head is None else build(config.head, num_classes=num_classes)
        emb_BD = network.eval()(torch.empty(2, 3, spec.height_px, spec.width_px))
    objective = Objective(head=head, terms=build_terms(config, num_classes=num_classes))
    if head is not None:
        num_centres = num_classes * head.centres.num_sub_centres
        assert head.centres.weight.shape == (num_centres, head.centres.embedding_dim) == (num_centres, emb_BD.shape[1])
    named = [*network.named_parameters(), *objective.named_parameters(prefix="objective")]
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups = build(config.optimizer).build(trained).param_groups
    assert sum(len(group["params"]) for group in groups) == len(trained)
    check_batches(config)
    build(config.schedule)
    build(config.augment).check()
    build(config.data.source)
    build(config.checkpoint)


def build_terms(config: DictConfig, *, num_classes: int) -> dict[str, Any]:
    """All but a distillation, whose teacher is a model that a user has."""
    sections = {name: section for name, section in config.loss.items() if name != "distillation"}
    return {
        name: build(section, **({"num_classes": num_classes} if "num_classes" in section else {}))
        for name, section in sections.items()
    }


def check_batches(config: DictConfig) -> None:
    settings, batch = build(config.trainer), config.data.global_batch_size
    assert batch % (settings.micro_batch_size or batch) == 0
    assert (settings.micro_batch_size or batch) % (config.data.images_per_identity or 1) == 0
    assert config.data.first_samples is None or config.data.first_samples >= batch


def check_schedule(config: DictConfig) -> None:
    """The rate is positive from the first step to the last, and ends far below its peak."""
    settings, schedule = build(config.trainer), build(config.schedule)
    num_steps = settings.num_steps or int(settings.num_epochs * 1000)
    factors = [schedule.factor(step, num_steps=num_steps, steps_per_epoch=1000) for step in (0, num_steps - 1)]
    assert all(0 < factor <= 1 for factor in factors) and factors[-1] < 0.02


def one_step(name: str, root: Path, run_dir: Path) -> list[str]:
    """An experiment's overrides for one step of two micro-batches of two on a small set."""
    batch = ["data.global_batch_size=4", "trainer.micro_batch_size=2"]
    alone = ["head.init=random"] if "init: class_mean" in (CONFIGS / "experiment" / f"{name}.yaml").read_text() else []
    return [f"experiment={name}", "debug=one_step", *batch, *alone, *on(root, run_dir)]


def on(root: Path, run_dir: Path) -> list[str]:
    """Overrides for a run on a small set with one benchmark."""
    return ["data=on_disk", f"data.root={root}", f"run_dir={run_dir}", "eval.num_folds=2", "loader.num_workers=0"]


def assert_one_step_done(run_dir: Path) -> None:
    result = json.loads((run_dir / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 1)
    assert 0 <= result["metrics"]["eval/tiny/accuracy"] <= 1
    assert math.isfinite(first_line(run_dir)["train/loss"])
    assert sorted(path.name for path in (run_dir / "checkpoints").iterdir()) == ["step-00000001"]


def check_initial_loss(run_dir: Path, *, num_classes: int) -> None:
    """The first loss tells the number of classes: it is ln C, and what scale and margin add."""
    config: Any = OmegaConf.load(run_dir / "config.yaml")
    head = build({**config.head, "num_classes": 2})
    head.centres.num_classes = num_classes  # the number is enough; so many centres may not fit into memory
    fraction = 0.0 if config.trainer.margin_ramp_epochs else 1.0
    head.set_margin_fraction(fraction)
    # the mean of 4 target logits, each with a standard deviation of s / sqrt(D), may be three of its own away
    slack = 3 * config.head.scale / math.sqrt(config.neck.embedding_dim) / math.sqrt(4)
    assert first_line(run_dir)["train/loss"] == pytest.approx(initial_loss(head), abs=slack)


def first_line(run_dir: Path) -> dict[str, Any]:
    return read_metrics(run_dir / "metrics.jsonl")[0]


def available_bytes() -> int:
    """Of memory; without a limit where the system does not tell."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else sys.maxsize


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), size_px=32)


def write_set(root: Path, *, size_px: int) -> Path:
    """8 identities with 4 crops of noise each, in record files, and a benchmark of 8 pairs beside them."""
    rng = np.random.default_rng(0)

    def crop() -> bytes:
        return cv2.imencode(".jpg", rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8))[1].tobytes()

    write_record_set(root, [[crop() for _ in range(4)] for _ in range(8)], height_px=size_px, width_px=size_px)
    write_pairs(root / "tiny.bin", [crop() for _ in range(16)], [True, False] * 4)
    return root


@pytest.fixture
def logger():
    """The logger as it was before; a run in this process sends it to its own files."""
    before = (LOGGER.handlers[:], LOGGER.level, LOGGER.propagate)
    yield LOGGER
    for handler in LOGGER.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    LOGGER.handlers[:], LOGGER.propagate = before[0], before[2]
    LOGGER.setLevel(before[1])
