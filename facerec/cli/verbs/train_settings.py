"""The keys of train.yaml and its sections, and the checks that need no file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.arguments import build, check_arguments, check_config, check_keys
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.verbs.parts import expectation
from facerec.cli.verbs.set_verbs import read_settings
from facerec.core.errors import ConfigError
from facerec.core.source import Source
from facerec.core.typed_text import typed
from facerec.data.sampling.sampler import SampleOrder
from facerec.training.checkpoint import check_interval
from facerec.training.optimizer import check_optimizer
from facerec.training.schedule import check_schedule

SECTIONS = (
    "augment", "backbone", "neck", "head", "loss", "freeze", "optimizer", "schedule", "trainer", "input", "checkpoint",
)  # fmt: skip
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class TopLevel:
    """The keys of train.yaml that are not sections."""

    seed: int
    run_dir: str | None
    name: str | int | float | None
    group: str | int | float | None
    resume: str
    resume_from: str | None
    init_from: str | None
    trust: str | list[str] | None
    profile: bool


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The section `data`."""

    root: str | list[str] | None
    global_batch_size: int
    sampling: str
    images_per_identity: int | None
    shuffle: str
    block_size: int
    blocks_mixed: int
    first_samples: int | None
    source: Source
    merge: str = "none"  # a key of sets on disk
    expect: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """The section `eval`."""

    benchmarks: dict[str, Any]
    sets: list[str] | None
    num_folds: int
    batch_size: int
    every_steps: int | None
    every_epochs: float | None
    at_start: bool | None


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """The section `loader`."""

    num_workers: int
    on_corrupt: str


@dataclass(frozen=True, kw_only=True)
class LoggingSettings:
    """The section `logging`."""

    every_steps: int
    samples_every_steps: int | None
    tensorboard: bool


def check(config: DictConfig) -> None:
    """Checks everything that needs no file; `-m` calls it for every trial before the first.

    Raises:
        ConfigError: names the key and the fix.
    """
    sections = {"data", "eval", "launch", "loader", "logging", *SECTIONS}
    check_keys(config, sections | set(TopLevel.__dataclass_fields__))
    check_config(config)
    check_arguments(DataSettings, OmegaConf.to_container(config.data), section="data")  # type: ignore[arg-type]
    expectation(config)
    sample_order(config)
    launch_settings(config).check_machine(device=config.trainer.device, key="trainer.device")
    top, evaluation, *_ = training_settings(config)
    if not 0 <= top.seed <= MAX_SEED:
        raise ConfigError(f"seed={top.seed}; expected 0 .. {MAX_SEED}")
    check_interval("eval", every_steps=evaluation.every_steps, every_epochs=evaluation.every_epochs)
    if top.resume not in ("auto", "never", "required"):
        raise ConfigError(
            f"resume={top.resume!r}; expected auto, never or required. To go on with a run: "
            f"{typed('run_dir', top.resume)}; "
            f"to start a new run from its whole state: {typed('resume_from', top.resume)}"
        )
    if (
        top.init_from is None
        and top.resume_from is None
        and config.head is not None
        and config.head.get("init") == "class_mean"
    ):
        raise ConfigError(
            "head.init=class_mean without init_from: the mean embeddings of an untrained network say nothing about the "
            "identities. Give init_from=..., or head.init=random"
        )
    for section in (config.trainer, config.checkpoint, config.freeze):
        build(section)
    check_optimizer(build(config.optimizer))
    check_schedule(build(config.schedule))
    build(config.augment).check(height_px=config.input.height_px, width_px=config.input.width_px)


def sample_order(config: DictConfig) -> SampleOrder:
    """Reads section `data`."""
    return SampleOrder(**{name: config.data[name] for name in SampleOrder.__dataclass_fields__})


def training_settings(config: DictConfig) -> tuple[TopLevel, EvalSettings, LoaderSettings, LoggingSettings]:
    """Reads the keys outside sections, and sections `eval`, `loader` and `logging`."""
    values: Any = OmegaConf.to_container(config)
    return (
        read_settings(TopLevel, values),
        EvalSettings(**check_arguments(EvalSettings, values["eval"], section="eval")),
        LoaderSettings(**check_arguments(LoaderSettings, values["loader"], section="loader")),
        LoggingSettings(**check_arguments(LoggingSettings, values["logging"], section="logging")),
    )
