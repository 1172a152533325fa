"""`facerec train`: builds the parts that a configuration names, and trains or resumes."""

import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

import facerec
from facerec.cli.arguments import build, check_arguments, check_config, check_keys
from facerec.cli.launch import LaunchSettings, launch
from facerec.cli.parts import build_network, build_objective, expectation, log_sizes, open_benchmarks, open_data
from facerec.cli.process_group import process_group
from facerec.cli.profile import profiled
from facerec.cli.run_directory import differences, run_directory
from facerec.cli.summary import benchmark_table, own_command, where_it_lies
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import CheckpointError, ConfigError, DataError
from facerec.core.failing_together import failing_together
from facerec.core.processes import Processes
from facerec.core.protocols import Source
from facerec.core.run_log import LOGGER, RunLog, log_to, read_metrics
from facerec.data.loader import BatchLoader
from facerec.data.sampler import SampleOrder
from facerec.evaluation.embed import NetworkEmbedder
from facerec.networks.weights import load_initial, read_initial
from facerec.training.checkpoint import CheckpointStore, check_interval
from facerec.training.settings import EvaluationPlan, TrainerSettings
from facerec.training.trainer import Trainer, TrainResult

SECTIONS = (
    "augment", "backbone", "neck", "head", "loss", "freeze", "optimizer", "schedule", "trainer", "input", "checkpoint",
)  # fmt: skip
MAX_SEED = 2**63 - 1
SECONDS_TO_WAIT = 10  # for a process that is writing its last checkpoint
PREEMPTED_FILE = "preempted"  # in the run directory, from a stop by a signal to the next start


@dataclass(frozen=True, kw_only=True)
class TopLevel:
    """The keys of train.yaml that are no section."""

    seed: int
    run_dir: str | None
    resume: str
    init_from: str | None
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
    merge: str = "none"  # what sets on disk have besides
    expect: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """The section `eval`."""

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
    """Checks everything that can be checked without opening a file, as `-m` does for every trial before the first.

    Raises:
        ConfigError: names the key and the mend.
    """
    sections = {"data", "eval", "launch", "loader", "logging", *SECTIONS}
    check_keys(config, sections | set(TopLevel.__dataclass_fields__))
    check_config(config)
    check_arguments(DataSettings, OmegaConf.to_container(config.data), section="data")  # type: ignore[arg-type]
    expectation(config)
    _sample_order(config)
    _launch_settings(config).check_machine(device=config.trainer.device)
    top, evaluation, *_ = _settings(config)
    if not 0 <= top.seed <= MAX_SEED:
        raise ConfigError(f"seed={top.seed}; expected 0 .. {MAX_SEED}")
    check_interval("eval", every_steps=evaluation.every_steps, every_epochs=evaluation.every_epochs)
    if top.resume not in ("auto", "never", "required"):
        raise ConfigError(f"resume={top.resume!r}; expected auto, never or required")
    if top.init_from is None and config.head is not None and config.head.get("init") == "class_mean":
        raise ConfigError(
            "head.init=class_mean without init_from: under an untrained network the mean embeddings of the identities "
            "say nothing about them. Give init_from=..., or head.init=random"
        )
    for section in (config.trainer, config.optimizer, config.schedule, config.checkpoint, config.freeze):
        build(section)
    build(config.augment).check(height_px=config.input.height_px, width_px=config.input.width_px)


def run(config: DictConfig, overrides: list[str]) -> int:
    """Trains to the end or to a signal, writes the results, prints them. Returns the exit code."""
    check(config)
    run_dir = run_directory(config, overrides)
    settings = _launch_settings(config)
    if settings.num_processes is not None:
        return launch(config, overrides, run_dir, settings)
    return train(config, overrides, run_dir)


def train(config: DictConfig, overrides: list[str], run_dir: Path) -> int:
    """Trains in this process, which a launcher may have started with others; see `run`.

    Those train together; the first of them writes and prints.
    """
    timeout_s = 60 * _launch_settings(config).timeout_minutes
    with process_group(device=config.trainer.device, timeout_s=timeout_s) as processes, ExitStack() as held:
        return _train(config, overrides, run_dir, held, processes)


def _train(config: DictConfig, overrides: list[str], run_dir: Path, held: ExitStack, processes: Processes) -> int:
    log_to(None, level=logging.INFO if processes.is_first else logging.ERROR)
    source, found = None, None
    with failing_together(processes):
        if processes.is_first:
            source, found = _take_directory(config, run_dir, held)
    found = processes.gather_objects(found)[0]
    assert found is not None  # it is the first one's
    if found.outcome is not None and found.resume_from is not None:
        if processes.is_first:
            print(
                f"{run_dir} is finished ({found.outcome['step']} steps); nothing to do. Another run_dir= trains anew."
            )
            _print_end(run_dir, found.resume_from, found.outcome["metrics"])
        return 0
    with failing_together(processes):
        if source is None:  # after the first, which may have drawn it into a cache
            source, fingerprint = open_data(config)
            if fingerprint != found.fingerprint:
                raise DataError(
                    f"the data: fingerprint {fingerprint[:12]} here, {found.fingerprint[:12]} in the first process "
                    f"({config.data.root}); all machines must have the same"
                )
        trainer = _build_trainer(config, source, found, run_dir, processes)
        if processes.is_first:
            _write_run(run_dir, config, overrides, found.fingerprint)
    with profiled(run_dir) if config.profile and processes.is_first else nullcontext():
        result = trainer.fit()
    if not processes.is_first:
        return 0
    if not result.finished:
        _write(run_dir / PREEMPTED_FILE, json.dumps({"step": result.step, "signal": result.stopped_by}))
        print(f"stopped at step {result.step} with a checkpoint; the same command goes on from there:")
        print(f"  facerec train {shlex.join(overrides)}")
        return 0
    _finish(run_dir, result)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the first process knows of the data and the run directory."""

    fingerprint: str
    resume_from: Path | None
    outcome: dict[str, Any] | None  # of a run that is finished


def _take_directory(config: DictConfig, run_dir: Path, held: ExitStack) -> tuple[Source, _Found]:
    """The data, and what there is in the run directory, which is held from now on."""
    is_new = not run_dir.is_dir()
    if not is_new:
        held.enter_context(_held_alone(run_dir))
        log_to(run_dir)
    source, fingerprint = open_data(config)
    resume_from = _resume_from(config, run_dir, fingerprint)
    outcome = None if resume_from is None else _finished(run_dir, resume_from)
    if outcome is None:
        if is_new:  # what is refused before this leaves no directory behind
            held.enter_context(_held_alone(run_dir))
            log_to(run_dir)
        (run_dir / "result.json").unlink(missing_ok=True)  # of a checkpoint that is damaged or gone
        (run_dir / PREEMPTED_FILE).unlink(missing_ok=True)
    return source, _Found(fingerprint=fingerprint, resume_from=resume_from, outcome=outcome)


@contextmanager
def _held_alone(run_dir: Path) -> Iterator[None]:
    """Keeps other processes out of a run directory; the system ends the lock with the process, however it dies."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        with lock.acquire(timeout=SECONDS_TO_WAIT):
            yield
    except Timeout:
        raise ConfigError(
            f"{run_dir}: another process trains there; wait until it ends, stop it, or use another run_dir"
        ) from None


def _sample_order(config: DictConfig) -> SampleOrder:
    return SampleOrder(**{name: config.data[name] for name in SampleOrder.__dataclass_fields__})


def _launch_settings(config: DictConfig) -> LaunchSettings:
    values: Any = OmegaConf.to_container(config.launch)
    return LaunchSettings(**check_arguments(LaunchSettings, values, section="launch"))


def _settings(config: DictConfig) -> tuple[TopLevel, EvalSettings, LoaderSettings, LoggingSettings]:
    values: Any = OmegaConf.to_container(config)
    top = {key: values[key] for key in TopLevel.__dataclass_fields__}
    return (
        TopLevel(**check_arguments(TopLevel, top, section="")),
        EvalSettings(**check_arguments(EvalSettings, values["eval"], section="eval")),
        LoaderSettings(**check_arguments(LoaderSettings, values["loader"], section="loader")),
        LoggingSettings(**check_arguments(LoggingSettings, values["logging"], section="logging")),
    )


def _resume_from(config: DictConfig, run_dir: Path, fingerprint: str) -> Path | None:
    """The checkpoint to go on from, after a comparison of what was trained with what is asked for."""
    store: CheckpointStore = build(config.checkpoint)
    newest = store.newest(run_dir / "checkpoints")
    if newest is None and any((run_dir / "checkpoints").glob("step-*")) and not _only_partial(run_dir):
        raise CheckpointError(
            f"{run_dir}: none of its checkpoints is whole (see above). Move the folder away, or use another run_dir"
        )
    if newest is None:
        if config.resume == "required":
            raise ConfigError(f"resume=required, but {run_dir} holds no checkpoint; check run_dir, or use resume=auto")
        return None
    if config.resume == "never":
        raise ConfigError(f"resume=never, but {run_dir} holds {newest.name}; use another run_dir, or resume=auto")
    stored_config, stored_print = _stored_run(run_dir)
    changed = differences(stored_config, OmegaConf.to_container(config))  # type: ignore[arg-type]
    if stored_print != fingerprint:
        changed.append(f"the data: fingerprint stored {stored_print[:12]}, now {fingerprint[:12]} ({config.data.root})")
    if changed:
        raise ConfigError(
            f"{run_dir} holds another run:\n  " + "\n  ".join(changed) + "\nEither train into another run_dir=..., or "
            f"start from its weights: init_from={run_dir} with another run_dir=..."
        )
    return newest


def _stored_run(run_dir: Path) -> tuple[dict[str, Any], str]:
    """The configuration and the data fingerprint that a run directory was trained with."""
    try:
        stored_config = yaml.safe_load((run_dir / "config.yaml").read_text())
        return stored_config, json.loads((run_dir / "run.json").read_text())["data_fingerprint"]
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{run_dir} holds checkpoints, but its config.yaml or run.json cannot be read ({error}), so whether they "
            f"belong to this run is not known. Use another run_dir=..., with init_from={run_dir} for its weights"
        ) from None


def _finished(run_dir: Path, newest: Path) -> dict[str, Any] | None:
    """What result.json says, if the newest whole checkpoint is the one that it was written for."""
    try:
        result = json.loads((run_dir / "result.json").read_text())
    except OSError:
        return None
    return result if int(newest.name.removeprefix("step-")) == result["step"] else None


def _only_partial(run_dir: Path) -> bool:
    return all(".partial-" in path.name for path in (run_dir / "checkpoints").glob("step-*"))


def _build_trainer(config: DictConfig, source: Source, found: _Found, run_dir: Path, processes: Processes) -> Trainer:
    top, evaluation, loading, logging = _settings(config)
    settings: TrainerSettings = build(config.trainer)
    network = build_network(config)
    objective = build_objective(config, source)
    log_sizes(network, source, config.data.root)
    if top.init_from is not None and found.resume_from is None:
        LOGGER.info(load_initial(network, read_initial(top.init_from)))
    loader = BatchLoader(
        source=source,
        augment=build(config.augment),
        global_batch_size=config.data.global_batch_size,
        micro_batch_size=settings.micro_batch_size or config.data.global_batch_size,
        seed=top.seed,
        order=_sample_order(config),
        num_workers=loading.num_workers,
        on_corrupt=loading.on_corrupt,
        pin_memory=torch.cuda.is_available(),
        processes=processes,
    )
    benchmarks = open_benchmarks(evaluation.sets, source, num_folds=evaluation.num_folds)
    about = {
        "version": _version(),
        "trained_on": {
            "data_root": str(config.data.root or getattr(source, "root", "")),
            "data_fingerprint": found.fingerprint,
            "num_classes": source.num_classes,
            "benchmarks": [str(benchmark.path.resolve()) for benchmark in benchmarks],
        },
    }
    return Trainer(
        network=network,
        objective=objective,
        loader=loader,
        optimizer=build(config.optimizer),
        schedule=build(config.schedule),
        settings=settings,
        evaluation=EvaluationPlan(
            evaluators=benchmarks,
            embedder=lambda net: NetworkEmbedder(
                network=net, input_spec=net.input_spec, batch_size=evaluation.batch_size
            ),
            every_steps=evaluation.every_steps,
            every_epochs=evaluation.every_epochs,
            at_start=top.init_from is not None if evaluation.at_start is None else evaluation.at_start,
        ),
        checkpoints=build(config.checkpoint),
        run_log=RunLog(run_dir=run_dir, tensorboard=logging.tensorboard, writes=processes.is_first),
        log_every_steps=logging.every_steps,
        samples_every_steps=logging.samples_every_steps,
        seed=top.seed,
        about=about,
        freeze=build(config.freeze),
        resume_from=found.resume_from,
    )


def _version() -> dict[str, str]:
    """facerec's version, and the commit where it runs from a checkout."""
    here = Path(facerec.__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return {"facerec": facerec.__version__, "commit": commit or "unknown"}


def _write_run(run_dir: Path, config: DictConfig, overrides: list[str], fingerprint: str) -> None:
    run = {
        "command": shlex.join(["facerec", "train", *overrides]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "version": _version(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "num_threads": torch.get_num_threads(),
        "data_fingerprint": fingerprint,
    }
    _write(run_dir / "config.yaml", OmegaConf.to_yaml(config))
    _write(run_dir / "overrides.json", json.dumps(overrides))
    _write(run_dir / "run.json", json.dumps(run, indent=1))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(text.encode())


def _finish(run_dir: Path, result: TrainResult) -> None:
    from facerec.figures.curves import training_curves

    training_curves(read_metrics(run_dir / "metrics.jsonl"), run_dir / "curves.png")
    outcome = {"status": "finished", "step": result.step, "metrics": result.metrics}
    _write(run_dir / "result.json", json.dumps(outcome, indent=1))
    _print_end(run_dir, result.checkpoint, result.metrics)


def _print_end(run_dir: Path, checkpoint: Path, metrics: dict[str, float]) -> None:
    if table := benchmark_table(metrics):
        print(f"\n{table}")
    print(f"\n{where_it_lies(run_dir, checkpoint)}")
    sets = "" if table else " 'sets=[<a .bin>]'"
    print(f"next         {own_command()} evaluate model={run_dir.resolve()}{sets} baselines=true")
