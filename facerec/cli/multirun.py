"""`-m`: expands sweeps into trials, checks all of them, and runs each in a new process with its own run directory."""

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import check_config
from facerec.cli.config.compose import compose
from facerec.cli.config.sweeps import choices_of
from facerec.cli.launching.exit_codes import FAILED, INTERRUPTED
from facerec.cli.run_directory import place_of, trial_directories, without_place
from facerec.cli.run_overrides import earlier_place, run_overrides, with_source
from facerec.cli.summary import best_and_next
from facerec.cli.verb_list import VERBS
from facerec.core.typed_text import override_of
from facerec.runs.same_run import StoredRuns
from facerec.sweeping.grid import Outcome, Trial, run_grid
from facerec.sweeping.grid_report import GridReport
from facerec.sweeping.trial_process import TrialProcess
from facerec.sweeping.trials import (
    expand,
    grid_directory,
    is_finished,
    refuse_shared_directories,
    write_grid_table,
)

NUM_FAILED = 3
"""How many of the failed trials are named at the end."""


def multirun(verb: str, overrides: Sequence[str], *, config_dir: str | None = None, num_jobs: int = 1) -> int:
    """Runs a grid and writes its table; returns 0, 1 when a trial failed, or 130 after Ctrl-C.

    Raises:
        ConfigError: a trial cannot be composed, the grid has no trials, or two trials share a run directory. Then
            nothing has been started.
        FacerecError: something that the trials need cannot be opened or built. Then nothing has been started either.
    """
    planned = plan(verb, overrides, config_dir=config_dir)
    trials = [trial for trial, _ in planned]
    configs: dict[Path, Any] = {trial.directory: OmegaConf.to_container(config) for trial, config in planned}
    due = {
        trial.directory: config
        for trial, config in planned
        if not is_finished(trial.directory, configs[trial.directory])
    }
    num_steps = dict(zip(due, _checked(verb, list(due.values())), strict=True))
    at_a_time = f", {num_jobs} at a time" if num_jobs > 1 else ""
    print(f"{len(trials)} trials in {grid_directory(trials)}{at_a_time}", flush=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, for schedulers
    try:
        outcomes = run_grid(
            trials,
            start=lambda trial: TrialProcess(command=trial_command(verb, trial, config_dir=config_dir)),
            is_finished=lambda trial: is_finished(trial.directory, configs[trial.directory]),
            num_jobs=num_jobs,
            report=GridReport(
                trials, num_steps=[num_steps.get(trial.directory) for trial in trials], num_jobs=num_jobs
            ),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    again = command(
        verb, *overrides, config_dir=config_dir, options=["-m", *(["--jobs", str(num_jobs)] if num_jobs > 1 else [])]
    )
    return _print_end(verb, outcomes, config_dir=config_dir, again=again)


def _checked(verb: str, configs: list[DictConfig]) -> list[int | None]:
    """Opens what the trials need, where the verb can; returns the number of steps of each trial."""
    check_trials = getattr(importlib.import_module(VERBS[verb].module), "check_trials", None)
    return [None] * len(configs) if check_trials is None else check_trials(configs)


def _print_end(verb: str, outcomes: Sequence[Outcome], *, config_dir: str | None, again: str) -> int:
    """Writes and prints the table, and prints the next command. Returns the exit code."""
    table, paths = write_grid_table(outcomes)
    print(f"\n{table}\ntable        {paths[0]}, {paths[1]}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        print(f"failed       {len(failed)} of {len(outcomes)} trials; listed in {paths[0]}")
    for outcome in failed[:NUM_FAILED]:
        rerun = command(verb, *outcome.trial.overrides, config_dir=config_dir)
        print(f"to see all of its output: {rerun}")
    if any(outcome.status in ("interrupted", "not started") for outcome in outcomes):
        print(f"stopped; to go on with what is not finished:\n  {again}")
        return INTERRUPTED
    print(best_and_next(outcome.trial.directory for outcome in outcomes if outcome.status != "failed"), end="")
    return FAILED if failed else 0


def trial_command(verb: str, trial: Trial, *, config_dir: str | None) -> list[str]:
    """Returns the command that runs one trial in a new interpreter: `python -m facerec <verb> ...`."""
    options = [] if config_dir is None else ["--config-dir", config_dir]
    return [sys.executable, "-m", "facerec", verb, *trial.overrides, *options]


def plan(verb: str, overrides: Sequence[str], *, config_dir: str | None = None) -> list[tuple[Trial, DictConfig]]:
    """Returns all trials with their composed and checked configurations, in the order of the command line.

    `run_dir=DIR` is the directory of the grid: each trial gets its own directory inside it; see `trial_directories`.

    Raises:
        ConfigError: see `multirun`.
    """
    place, stored = place_of(overrides), StoredRuns()
    check = getattr(importlib.import_module(VERBS[verb].module), "check", check_config)
    planned: list[tuple[Trial, DictConfig]] = []
    expanded = expand(choices_of(without_place(overrides), config_dir=config_dir))
    whole = [with_source(chosen, config_dir=config_dir) for chosen in expanded]
    named = trial_directories(whole, place, config_dir=config_dir)
    for chosen, complete, own in zip(expanded, whole, named, strict=True):
        directory = own if place.is_named else earlier_place(own, complete, stored, config_dir=config_dir)
        started_with = [*chosen, override_of("run_dir", directory)]
        config = compose(verb, run_overrides(verb, started_with, config_dir=config_dir), config_dir)
        check_config(config)
        check(config)
        planned.append((Trial(overrides=tuple(started_with), directory=directory, place=own), config))
    refuse_shared_directories([trial for trial, _ in planned])
    return planned
