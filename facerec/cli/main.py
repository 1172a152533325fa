"""The console script: reads the verb, its options and its overrides, composes, checks and runs.

This file and what it imports at its head see neither Hydra nor torch, so that help and mistakes answer at once.
"""

import argparse
import errno
import importlib
import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from facerec.cli.commands import called_with
from facerec.cli.developer_warnings import hide_developer_warnings
from facerec.cli.verbs import VERBS
from facerec.core.errors import ConfigError, FacerecError, LostProcessError, OtherProcessError

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130
OF_THE_DISK = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `facerec <verb> [overrides] [options]`; raises SystemExit unless all went well.

    Args:
        argv: what stands after `facerec`; None takes it from the command line, and hides the warnings for developers.

    Exit codes: 0, what the verb says, and those of `exit_code`.
    """
    if argv is None:
        hide_developer_warnings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
    if "FACEREC_GRID_PROCESS" in os.environ:
        from facerec.sweeping.trial_process import end_with_grid

        end_with_grid()
    quiet_torch()
    if code := exit_code(lambda: _run(list(sys.argv[1:] if argv is None else argv))):
        raise SystemExit(code)


def exit_code(work: Callable[[], int]) -> int:
    """What `work` returns; after an error that it raises for the user, which is printed without a traceback, another.

    2 for an error that the user can mend, also one of the disk, 1 where another process of the training has gone, 130
    after Ctrl-C. Other exceptions are mistakes in facerec and keep their traceback.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except OtherProcessError:  # which prints it
        return USER_ERROR
    except FacerecError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED if isinstance(error, LostProcessError) else USER_ERROR
    except BrokenPipeError:
        if not _has_no_reader(1):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter writes what is left at its end
        return FAILED
    except OSError as error:
        if error.errno not in OF_THE_DISK or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _has_no_reader(fd: int) -> bool:
    """Whether it is a pipe that nobody reads any more, as after `| head`."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def started_with_others() -> bool:
    """Whether torchrun, or `launch`, has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def quiet_torch() -> None:
    """Before torch is imported: among several processes, no warnings of its C++ side about what is meant."""
    if started_with_others():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        from facerec.cli.help import overview

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


def _run_verb(name: str, options: argparse.Namespace) -> int:
    called_with(config_dir=options.config_dir)
    if options.help:
        from facerec.cli.help import verb_help

        print(verb_help(name, config_dir=options.config_dir))
        return 0
    if options.multirun:
        from facerec.cli.multirun import multirun

        return multirun(name, options.overrides, config_dir=options.config_dir, num_jobs=options.jobs)
    from facerec.cli.compose import compose

    config = compose(name, options.overrides, options.config_dir, allow_missing=options.cfg is not None)
    if options.cfg is not None:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), end="")
        return 0
    from facerec.cli.arguments import check_config

    check_config(config)
    return importlib.import_module(VERBS[name].module).run(config, options.overrides)


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
            f"facerec {name} takes no -m; grids are for {', '.join(v for v in VERBS if VERBS[v].multirun)}"
        )
    if options.jobs < 1 or (options.jobs > 1 and not options.multirun):
        raise ConfigError(f"--jobs {options.jobs}; expected a positive number, together with -m")
    if options.multirun and started_with_others():
        raise ConfigError("-m under torchrun: each of its processes would run the grid; give launch.gpus=... instead")
    if options.multirun and options.cfg:
        raise ConfigError("--cfg job shows one configuration; leave -m out, or give the overrides of one trial")
    return options


class _Parser(argparse.ArgumentParser):
    """Its errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")
