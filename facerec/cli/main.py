"""The console script: reads the verb, its options and its overrides, composes, checks and runs.

This file and its top-level imports see neither Hydra nor torch, so that help and messages about mistakes come fast.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from facerec.cli.commands import called_with
from facerec.cli.launching.developer_warnings import hide_developer_warnings
from facerec.cli.launching.exit_codes import exit_code, quiet_torch, started_with_others
from facerec.cli.verb_list import VERBS
from facerec.core.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `facerec <verb> [overrides] [options]`; raises SystemExit unless it succeeds.

    Args:
        argv: the words after `facerec`; None takes them from the command line, and hides warnings for developers.

    Exit codes: 0, the verb's own, and those of `exit_code`.
    """
    if argv is None:
        hide_developer_warnings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may not be UTF-8
    if "FACEREC_GRID_PROCESS" in os.environ:
        from facerec.sweeping.trial_process import end_with_grid

        end_with_grid()
    quiet_torch()
    if code := exit_code(lambda: _run(list(sys.argv[1:] if argv is None else argv))):
        raise SystemExit(code)


def _run(argv: list[str]) -> int:
    _check_current_directory()
    if not argv or argv[0] in ("-h", "--help", "help"):
        from facerec.cli.config.help import overview

        print(overview())
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        print(version("facerec"))
        return 0
    name = argv[0]
    if name not in VERBS:
        raise ConfigError(
            f"{name}: no such verb; expected one of {', '.join(VERBS)}, as in facerec train experiment=..."
        )
    return _run_verb(name, _options(name, argv[1:]))


def _check_current_directory() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError(
            "the current directory has been deleted; change to another one, for example with cd"
        ) from None


def _run_verb(name: str, options: argparse.Namespace) -> int:
    called_with(config_dir=options.config_dir)
    if options.help and options.overrides:
        from facerec.cli.config.key_help import help_about

        print(help_about(name, options.overrides, config_dir=options.config_dir))
        return 0
    if options.help:
        from facerec.cli.config.help import verb_help

        print(verb_help(name, config_dir=options.config_dir))
        return 0
    if options.multirun:
        from facerec.cli.multirun import multirun

        return multirun(name, options.overrides, config_dir=options.config_dir, num_jobs=options.jobs)
    from facerec.cli.config.compose import compose
    from facerec.cli.run_overrides import run_overrides

    overrides = run_overrides(name, options.overrides, config_dir=options.config_dir)
    config = compose(name, overrides, options.config_dir, allow_missing=options.cfg is not None)
    if options.cfg is not None:
        from facerec.cli.config.commented_yaml import commented_yaml

        print(commented_yaml(config, name, overrides, options.config_dir), end="")
        return 0
    from facerec.cli.config.arguments import check_config

    check_config(config)
    return importlib.import_module(VERBS[name].module).run(config, overrides)


def _options(name: str, argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog=f"facerec {name}", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--config-dir")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(argv)
    if options.multirun and not VERBS[name].multirun:
        raise ConfigError(
            f"facerec {name} does not take -m; grids are for {', '.join(v for v in VERBS if VERBS[v].multirun)}"
        )
    if options.jobs < 1 or (options.jobs > 1 and not options.multirun):
        raise ConfigError(f"--jobs {options.jobs}; expected a positive number, together with -m")
    if options.multirun and started_with_others():
        raise ConfigError("-m under torchrun: each of its processes would run the grid; give launch.gpus=... instead")
    if options.multirun and options.cfg:
        raise ConfigError("--cfg job shows one configuration; remove -m, or give the overrides of one trial")
    return options


class _Parser(argparse.ArgumentParser):
    """Raises ConfigError instead of exiting, so that all mistakes are reported in the same way."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments"):
            message += "; settings are written without dashes, as key=value"
        raise ConfigError(f"{message}; see {self.prog} --help")
