"""Says, before the first step, how long a training is and what may make it useless; nothing is changed."""

from collections.abc import Sequence

import numpy as np
from omegaconf import DictConfig

from facerec.cli.commands import given_config_dir
from facerec.cli.config.arguments import build
from facerec.cli.config.compose import compose
from facerec.cli.verbs.run_length import timetable_of
from facerec.core.log import LOGGER
from facerec.core.protocols import Evaluator
from facerec.core.source import Source
from facerec.evaluation.verification import VerificationBenchmark
from facerec.runs.comparison import split_override
from facerec.training.early_warnings import few_steps, mostly_single_images, unusual_lr

LR, BATCH = "optimizer.lr", "data.global_batch_size"


def log_length(config: DictConfig, source: Source) -> None:
    """Logs the number of steps and of identities with one image, and warns of both."""
    times, batch_size = timetable_of(config, source), config.data.global_batch_size
    images = np.bincount(source.labels)
    num_single, num_identities = int((images == 1).sum()), int((images > 0).sum())
    LOGGER.info(
        "%d optimizer step%s of %d images, %.4g epochs; %s of %d identities %s one image",
        times.num_steps,
        "" if times.num_steps == 1 else "s",
        batch_size,
        times.num_steps / times.steps_per_epoch,
        num_single or "none",
        num_identities,
        "has" if num_single == 1 else "have",
    )
    _warn(
        few_steps(
            num_steps=times.num_steps,
            num_images=len(source),
            batch_size=batch_size,
            starts_at_means=(config.head or {}).get("init") == "class_mean",
        ),
        mostly_single_images(
            num_single=num_single,
            num_identities=num_identities,
            starts_trained=(config.init_from or config.resume_from) is not None,
        ),
    )


def warn_of_settings(config: DictConfig, overrides: Sequence[str], benchmarks: Sequence[Evaluator]) -> None:
    """Warns of a learning rate far from the recipe's, and of benchmarks with unbalanced pairs.

    Args:
        config: the resolved configuration.
        overrides: the overrides that it was composed from.
        benchmarks: see `facerec.cli.verbs.parts.open_benchmarks`.
    """
    pairs = [one.pairs_warning() for one in benchmarks if isinstance(one, VerificationBenchmark)]
    _warn(lr_warning(config, overrides), *pairs)


def lr_warning(config: DictConfig, overrides: Sequence[str]) -> str | None:
    """Returns a warning if the command's learning rate is far from the recipe's, scaled to the command's batch.

    The recipe is the configuration without the command's learning rate and batch: the experiment's, or the defaults.

    Args:
        config: the resolved configuration.
        overrides: the overrides that it was composed from.
    """
    kept = [override for override in overrides if split_override(override)[0] not in (LR, BATCH)]
    exponent = getattr(build(config.optimizer), "lr_batch_exponent", None)
    if len(kept) == len(overrides) or exponent is None:
        return None
    recipe = compose("train", kept, given_config_dir(), allow_missing=True)
    usual_lr, usual_batch = recipe.optimizer.get("lr"), recipe.data.get("global_batch_size")
    if not isinstance(usual_lr, int | float) or not isinstance(usual_batch, int):  # mandatory in an own option
        return None
    return unusual_lr(
        lr=config.optimizer.lr,
        batch_size=config.data.global_batch_size,
        usual_lr=usual_lr,
        usual_batch_size=usual_batch,
        exponent=exponent,
    )


def _warn(*warnings: str | None) -> None:
    for warning in warnings:
        if warning is not None:
            LOGGER.warning(warning)
