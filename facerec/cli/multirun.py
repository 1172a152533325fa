"""`-m`: expands sweeps into trials, checks all of them, and runs each in a fresh process and a directory of its own."""

import importlib
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import check_config
from facerec.cli.config.compose import compose
from facerec.cli.config.config_files import config_directories, group_options, is_group
from facerec.cli.config.overrides import parse_overrides
from facerec.cli.run_directory import RUNS, run_directory
from facerec.cli.verb_list import VERBS
from facerec.core.errors import ConfigError, DataError
from facerec.core.typed_text import override_of, shell_word
from facerec.runs.comparison import differences, split_override
from facerec.runs.run_directory import RunDirectory
from facerec.runs.table import make_table, markdown, read_runs, write_table
from facerec.sweeping.grid import Outcome, Trial, run_grid
from facerec.sweeping.trial_process import TrialProcess

FAILED, INTERRUPTED = 1, 130


def multirun(verb: str, overrides: Sequence[str], *, config_dir: str | None = None, num_jobs: int = 1) -> int:
    """Runs a grid and writes its table; returns 0, 1 when a trial failed, or 130 after Ctrl-C.

    Raises:
        ConfigError: a trial cannot be composed, the grid has no trials, or two trials share a run directory. Nothing
            has been started then.
    """
    planned = plan(verb, overrides, config_dir=config_dir)
    trials = [trial for trial, _ in planned]
    configs = {trial.directory: config for trial, config in planned}
    print(f"a grid of {len(trials)} trials in {grid_directory(trials)}", flush=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, for schedulers
    try:
        outcomes = run_grid(
            trials,
            start=lambda trial: TrialProcess(
                command=trial_command(verb, trial, config_dir=config_dir), echo=num_jobs == 1
            ),
            is_finished=lambda trial: is_finished(trial.directory, configs[trial.directory]),
            num_jobs=num_jobs,
            tell=lambda line: print(line, flush=True),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    _report(outcomes)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"to see it whole: {command(verb, *outcome.trial.overrides, config_dir=config_dir)}")
    if any(outcome.status in ("interrupted", "not started") for outcome in outcomes):
        print("stopped; the same command goes on from here")
        return INTERRUPTED
    return FAILED if failed else 0


def trial_command(verb: str, trial: Trial, *, config_dir: str | None) -> list[str]:
    """The command that runs one trial in a fresh interpreter: `python -m facerec <verb> ...`."""
    options = [] if config_dir is None else ["--config-dir", config_dir]
    return [sys.executable, "-m", "facerec", verb, *trial.overrides, *options]


def plan(verb: str, overrides: Sequence[str], *, config_dir: str | None = None) -> list[tuple[Trial, DictConfig]]:
    """All trials with their composed and checked configurations, in the order of the command line.

    `run_dir=DIR` stands for the directory of the grid: each trial gets a directory of its own inside it.

    Raises:
        ConfigError: see `multirun`.
    """
    given = [override for override in overrides if split_override(override)[0] != "run_dir"]
    check = getattr(importlib.import_module(VERBS[verb].module), "check", check_config)
    planned: list[tuple[Trial, DictConfig]] = []
    for chosen in _with_own_directories(expand(given, config_dir=config_dir), _grid_root(overrides)):
        config = compose(verb, chosen, config_dir)
        check_config(config)
        check(config)
        planned.append((Trial(overrides=tuple(chosen), directory=run_directory(config, chosen)), config))
    _refuse_shared_directories([trial for trial, _ in planned])
    return planned


def expand(overrides: Sequence[str], *, config_dir: str | None = None) -> list[list[str]]:
    """The overrides of each trial: every combination of the values of all sweeps.

    Raises:
        ConfigError: a sweep has no values, or cannot be counted; the message tells the spelling that works.
    """
    choices: list[list[str]] = []
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        if not override.is_sweep_override():
            choices.append([text])
            continue
        values = _sweep_values(override, config_dir)
        choices.append([f"{override.get_key_element()}={value}" for value in values])
    return [list(chosen) for chosen in itertools.product(*choices)]


def is_finished(directory: Path, config: DictConfig) -> bool:
    """Whether the run in `directory` has its result and was made with this configuration.

    Where it was made with another, its trial is started, and refuses to resume with the differences.
    """
    current: Any = OmegaConf.to_container(config, resolve=True)
    try:
        run = RunDirectory(directory)
        return run.read_result() is not None and not differences(run.read_config(), current)
    except DataError:
        return False  # its trial says what is wrong with the file


def grid_directory(trials: Sequence[Trial]) -> Path:
    """Where the table goes: `runs/<experiment>`, or what the experiments of the grid have in common."""
    return Path(os.path.commonpath([trial.directory.parent for trial in trials]))


def _grid_root(overrides: Sequence[str]) -> Path | None:
    """The directory that `run_dir=` names for the grid."""
    given = parse_overrides([override for override in overrides if split_override(override)[0] == "run_dir"])
    if not given or given[-1].value() is None:
        return None
    if not isinstance(given[-1].value(), str):
        raise ConfigError(
            f"{given[-1].input_line}: with -m, run_dir is the one directory in which every trial has its own"
        )
    return Path(str(given[-1].value())).expanduser()


def _with_own_directories(trials: list[list[str]], root: Path | None) -> list[list[str]]:
    """With a directory for the grid: the trials with a `run_dir` each, named as it would be below runs/<experiment>."""
    if root is None:
        return trials
    names = [run_directory(OmegaConf.create(), chosen) for chosen in trials]
    common = os.path.commonpath([name.parent for name in names])
    directories = [str(root / name.relative_to(common)) for name in names]
    return [[*chosen, override_of("run_dir", own)] for chosen, own in zip(trials, directories, strict=True)]


def _sweep_values(override: Override, config_dir: str | None) -> list[str]:
    text, value = override.input_line, override.value()
    if override.is_interval_sweep():
        raise ConfigError(f"{text}: a grid takes values that can be counted, such as 0.3,0.4,0.5 or range(1,4)")
    if isinstance(value, Glob):
        return _glob_values(override, value, config_dir)
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{text}: shuffled values would make another grid each time; leave shuffle() out")
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise ConfigError(f"{text}: {error}") from None
    if not values:
        raise ConfigError(f"{text}: no values, so a grid of no trials; range(1,4) is 1,2,3")
    return values


def _glob_values(override: Override, glob: Glob, config_dir: str | None) -> list[str]:
    group, directories = override.key_or_group, config_directories(config_dir)
    if not is_group(group, directories):
        raise ConfigError(f"{override.input_line}: glob() chooses among the options of a group, and {group} is none")
    options = group_options(group, directories)
    if values := glob.filter(options):
        return values
    mend = f"{group} has {', '.join(options) or 'no options'}"
    folder, slash, pattern = glob.include[0].rpartition("/")
    if slash and is_group(f"{group}/{folder}", directories):
        mend = f"glob() looks into one folder only: write {shell_word(f'+{group}/{folder}=glob({pattern})')}"
    raise ConfigError(f"{override.input_line}: matches no option, so a grid of no trials; {mend}")


def _refuse_shared_directories(trials: Sequence[Trial]) -> None:
    seen: dict[Path, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.directory, trial)
        if other is not trial:
            apart = ", ".join(sorted(set(trial.overrides) ^ set(other.overrides)))
            raise ConfigError(
                f"two trials of the grid would share {trial.directory}: "
                + (f"{apart} do not change the result; leave that out of the grid" if apart else "one is given twice")
            )


def _report(outcomes: Sequence[Outcome]) -> None:
    """Writes and prints the table of all runs beside the trials, those of earlier grids too."""
    trials = [outcome.trial for outcome in outcomes]
    directory = grid_directory(trials)
    failures = {
        outcome.trial.directory: f"{outcome.status} {outcome.message}".strip()
        for outcome in outcomes
        if outcome.status not in ("finished", "skipped")
    }
    table = make_table(read_runs({trial.directory.parent for trial in trials}), failures=failures)
    title = str(directory.relative_to(RUNS)) if directory.is_relative_to(RUNS) else directory.name
    paths = write_table(table, directory, title=title)
    print(f"\n{markdown(table, title=title)}\ntable: {paths[0]}, {paths[1]}", flush=True)
