"""`facerec train`: builds the parts that the configuration names, and trains or resumes."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import build
from facerec.cli.launching.launch import in_processes
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.launching.process_group import process_group
from facerec.cli.summary import against_start, benchmark_table, evaluate_command, where_it_lies
from facerec.cli.verbs.before_training import log_length, warn_of_settings
from facerec.cli.verbs.parts import (
    build_loader,
    build_network,
    build_objective,
    log_sizes,
    open_benchmarks,
    open_data,
)
from facerec.cli.verbs.profile import profiled
from facerec.cli.verbs.run_files import checkpoint_to_resume, write_run
from facerec.cli.verbs.run_length import timetable_of
from facerec.cli.verbs.set_verbs import size_overrides
from facerec.cli.verbs.train_settings import check, sample_order, training_settings
from facerec.cli.verbs.trial_checks import check_trials as check_trials  # a part of this verb, for grids
from facerec.cli.verbs.ways_on import way_after_a_stop, ways_after_divergence, ways_after_the_end
from facerec.core.errors import CheckpointError, DataError, LostProcessError, OtherProcessError, TrainingError
from facerec.core.log import LOGGER, log_to
from facerec.core.metric import Metric
from facerec.core.source import Source
from facerec.core.typed_text import override_of
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.evaluation.unbalanced import constant_answer_marks
from facerec.evaluation.verification import VerificationBenchmark
from facerec.networks.weights import load_initial, read_initial
from facerec.processes.agreement import failing_together
from facerec.processes.group import Processes
from facerec.runs.checkpoints import newest_whole, step_of
from facerec.runs.choice import BEST, best_checkpoint, best_note
from facerec.runs.environment import versions
from facerec.runs.resumption import outcome_of
from facerec.runs.run_directory import RunDirectory
from facerec.runs.run_log import RunLog, read_metrics
from facerec.training.settings import EvaluationPlan, TrainerSettings
from facerec.training.trainer import Trainer, TrainResult


def run(config: DictConfig, overrides: list[str]) -> int:
    """Trains to the end or to a signal, writes the results and prints them. Returns the exit code."""
    check(config)
    return in_processes(
        "train",
        config,
        overrides,
        work=work,
        device=config.trainer.device,
        key="trainer.device",
        goes_on="from the last checkpoint",
        finishes_step=True,
    )


def work(config: DictConfig, overrides: list[str]) -> int:
    """Trains in this process, which a launcher may have started with others; see `run`.

    These processes train together; the first of them writes and prints.
    """
    run_dir = Path(config.run_dir).expanduser()
    timeout_s = 60 * launch_settings(config).timeout_minutes
    with process_group(device=config.trainer.device, timeout_s=timeout_s) as processes, ExitStack() as held:
        return _train(config, overrides, run_dir, held, processes)


def _train(config: DictConfig, overrides: list[str], run_dir: Path, held: ExitStack, processes: Processes) -> int:
    log_to(None, level=logging.INFO if processes.is_first else logging.ERROR)
    source, found = None, None
    with failing_together(processes):
        if processes.is_first:
            source, found = _take_directory(config, overrides, run_dir, held)
    found = processes.gather_objects(found)[0]
    assert found is not None  # it comes from the first process
    if found.outcome is not None and found.resume_from is not None:
        if processes.is_first:
            print(f"{run_dir} is finished ({step_of(found.resume_from)} steps); nothing to do.")
            print(ways_after_the_end(config, run_dir))
            _print_end(config, run_dir, found.resume_from, found.outcome)
        return 0
    with failing_together(processes):
        if source is None:  # after the first process, which may have drawn the set into a cache
            source, fingerprint = open_data(config)
            if fingerprint != found.fingerprint:
                raise DataError(
                    f"the data: fingerprint {fingerprint[:12]} here, {found.fingerprint[:12]} in the first process "
                    f"({config.data.root}); all machines must have the same data"
                )
        trainer = _build_trainer(config, overrides, source, found, run_dir, processes)
        if processes.is_first:
            write_run(RunDirectory(run_dir), config, overrides, found.fingerprint)
    with profiled(run_dir) if config.profile and processes.is_first else nullcontext():
        result = _fit(trainer, config, run_dir)
    if not processes.is_first:
        return 0
    if not result.finished:
        RunDirectory(run_dir).write_preempted(step=result.step, signal=result.stopped_by)
        print(f"stopped at step {result.step} with a checkpoint; {way_after_a_stop(config, run_dir)}")
        return 0
    _finish(config, RunDirectory(run_dir), result)
    return 0


def _fit(trainer: Trainer, config: DictConfig, run_dir: Path) -> TrainResult:
    """Trains; the error of a training that diverges names the ways on.

    If the state of `resume_from` does not fit, the settings that do not fit are not kept for the next command.
    """
    try:
        return trainer.fit()
    except (CheckpointError, OtherProcessError):
        if trainer.step == 0 and config.resume_from is not None and trainer.processes.is_first:
            RunDirectory(run_dir).forget_the_start()
        raise
    except LostProcessError:
        raise
    except TrainingError as error:
        newest, _ = newest_whole(RunDirectory(run_dir).checkpoints)
        ways = ways_after_divergence(config, run_dir, has_checkpoint=newest is not None)
        raise TrainingError(f"{error}.\n{ways}") from None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The data and the run directory, as the first process found them."""

    fingerprint: str
    resume_from: Path | None
    outcome: list[Metric] | None  # the final metrics of a finished run


def _take_directory(config: DictConfig, overrides: list[str], run_dir: Path, held: ExitStack) -> tuple[Source, _Found]:
    """Opens the data and the run directory; locks the run directory from now on."""
    run, is_new = RunDirectory(run_dir), not run_dir.is_dir()
    if not is_new:
        held.enter_context(run.held_alone())
        log_to(run.log)
    source, fingerprint = open_data(config)
    resume_from = checkpoint_to_resume(config, overrides, run, source, fingerprint)
    num_steps = timetable_of(config, source).num_steps
    outcome = None if resume_from is None else outcome_of(run, resume_from, num_steps=num_steps)
    if outcome is None:
        if is_new:  # refused settings leave no directory behind
            held.enter_context(run.held_alone())
            log_to(run.log)
        run.forget_the_end()
    return source, _Found(fingerprint=fingerprint, resume_from=resume_from, outcome=outcome)


def _build_trainer(
    config: DictConfig, overrides: list[str], source: Source, found: _Found, run_dir: Path, processes: Processes
) -> Trainer:
    top, evaluation, loading, logging = training_settings(config)
    settings: TrainerSettings = build(config.trainer)
    network = build_network(config)
    objective = build_objective(config, source)
    log_sizes(network, source, config.data.root)
    log_length(config, source)
    if top.init_from is not None and found.resume_from is None:
        LOGGER.info(load_initial(network, read_initial(top.init_from, network, trust=top.trust)))
    size_px = network.input_spec.size_px
    loader = build_loader(
        config, source, order=sample_order(config), size_px=size_px, processes=processes, **vars(loading)
    )
    benchmarks = open_benchmarks(
        config.eval,
        source,
        num_folds=evaluation.num_folds,
        size_px=size_px,
        best_metric=config.checkpoint.best_metric,
    )
    if processes.is_first:
        warn_of_settings(config, overrides, benchmarks)
    about = {
        "version": versions(),
        "trained_on": {
            "data_root": str(config.data.root or getattr(source, "root", "")),
            "data_fingerprint": found.fingerprint,
            "num_classes": source.num_classes,
            "benchmarks": [str(one.path.resolve()) for one in benchmarks if isinstance(one, VerificationBenchmark)],
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


def _finish(config: DictConfig, run: RunDirectory, result: TrainResult) -> None:
    from facerec.plots.curves import training_curves

    training_curves(read_metrics(run.metrics), run.curves)
    run.write_result(step=result.step, metrics=result.metrics)
    _print_end(config, run.path, result.checkpoint, result.metrics)


def _print_end(config: DictConfig, run_dir: Path, checkpoint: Path, metrics: Sequence[Metric]) -> None:
    if table := benchmark_table(metrics):
        print(f"\n{table}")
    for mark in constant_answer_marks(metrics):
        print(f"\n{mark}")
    if note := against_start(run_dir, metrics, best_metric=config.checkpoint.best_metric):
        print(f"\n{note}")
    print(f"\n{where_it_lies(run_dir, checkpoint)}")
    run, best_metric = RunDirectory(run_dir), config.checkpoint.best_metric
    best = best_checkpoint(run, best_metric=best_metric)
    if best is not None:
        print(f"best         {best_note(run, best, checkpoint, best_metric=best_metric)}")
    if table:
        print(f"next         {evaluate_command(run_dir, which=None if best in (None, checkpoint) else BEST)}")
        return
    source: Source = build(config.data.source)
    if sets := source.benchmarks():
        print(f"next         {evaluate_command(run_dir, sets=sets)}")
    elif config.data.root is not None:
        print("next         nothing has measured this model; to set a fifth of the identities aside for that:")
        print(f"             {_split_command(config)}")


def _split_command(config: DictConfig) -> str:
    """Returns the command that packs a part of the identities of the training set as pairs."""
    data: Any = OmegaConf.to_container(config.data)
    root = data["root"]
    first = root[0] if isinstance(root, list) else root
    merge = [override_of("data.merge", data["merge"])] if data.get("merge", "none") != "none" else []
    size = size_overrides((config.input.height_px, config.input.width_px)).split()
    out = override_of("out", f"{Path(first).name}_split")
    return command("pack", override_of("data.root", root), *merge, *size, "split.val_identities=0.2", "pairs=auto", out)
