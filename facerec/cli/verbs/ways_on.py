"""The commands that `facerec train` prints where a run ends, stops or is refused: how to go on with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from facerec.cli.commands import command
from facerec.cli.launching.exit_codes import started_with_others
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.run_directory import PLACE_KEYS
from facerec.cli.run_overrides import STARTS
from facerec.core.typed_text import override_of
from facerec.runs.comparison import LENGTH_KEYS, split_override
from facerec.runs.run_directory import RunDirectory


def ways_past_differences(run: RunDirectory, overrides: Sequence[str], *, same_data: bool) -> str:
    """Returns what to do if a run directory holds another run than the command means.

    Args:
        run: the stored run.
        overrides: those of the refused training.
        same_data: False if the data differ too, so that the state cannot be taken over.
    """
    other = override_of("run_dir", _free(run.path))
    own = [one for one in overrides if split_override(one)[0] not in (*PLACE_KEYS, *STARTS)]
    stored = run.read_overrides()
    new = [one for one in own if one not in stored]
    lines = ["In this run_dir, only the length and settings that do not change the result may differ."]
    if same_data:
        lines += [
            "To go on from its whole state with these settings:",
            f"  {command('train', override_of('resume_from', run.path), other, *new)}",
        ]
    lines += [
        "To start from its weights alone:",
        f"  {command('train', *own, override_of('init_from', run.path), other)}",
    ]
    return "\n".join(lines)


def ways_after_the_end(config: DictConfig, run_dir: Path) -> str:
    """Returns how to train a finished run longer, and how to go on from it with other settings."""
    key = LENGTH_KEYS[0 if config.trainer.num_steps is None else 1]
    longer: Any = 2 * config.trainer[key.removeprefix("trainer.")]
    return (
        "To train longer:\n"
        f"  {command('train', override_of('run_dir', run_dir), override_of(key, longer))}\n"
        "To go on with other settings, such as another learning rate:\n"
        f"  {_with_other_rate(config, run_dir)}"
    )


def ways_after_divergence(config: DictConfig, run_dir: Path, *, has_checkpoint: bool) -> str:
    """Returns how to go on with a tenth of the learning rate after a loss that is not finite."""
    if has_checkpoint:
        return f"To go on from the last checkpoint with a smaller learning rate:\n  {_with_other_rate(config, run_dir)}"
    again = command("train", override_of("run_dir", run_dir), *_smaller_rate(config))
    return f"To start again with a smaller learning rate:\n  {again}"


def way_after_a_stop(config: DictConfig, run_dir: Path) -> str:
    """Returns how to resume a run that a signal has stopped."""
    if started_with_others() and launch_settings(config).num_processes is None:
        return f"to resume, repeat the torchrun command; {override_of('run_dir', run_dir)} is enough after `train`"
    return f"to resume:\n  {command('train', override_of('run_dir', run_dir))}"


def _with_other_rate(config: DictConfig, run_dir: Path) -> str:
    place = override_of("run_dir", _free(run_dir))
    return command("train", override_of("resume_from", run_dir), place, *_smaller_rate(config))


def _smaller_rate(config: DictConfig) -> list[str]:
    """Returns the override of a tenth of the learning rate; none if the optimizer has no such key."""
    rate = config.optimizer.get("lr")
    return [] if rate is None else [override_of("optimizer.lr", float(f"{rate / 10:.3g}"))]


def _free(run_dir: Path) -> Path:
    """Returns the path, with a number at its end if it exists."""
    number, path = 1, run_dir
    while path.exists():
        number += 1
        path = run_dir.with_name(f"{run_dir.name}_{number}")
    return path
