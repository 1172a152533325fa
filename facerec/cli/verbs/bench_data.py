"""`facerec bench suite=data`: images per second from disk to the trainer, next to torchvision's ImageFolder."""

import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from facerec.bench.alternation import Timing
from facerec.bench.data import OURS, THEIRS, SameCrops, time_loaders, time_parts
from facerec.cli.config.arguments import build
from facerec.cli.summary import text_table
from facerec.cli.verbs.parts import open_data
from facerec.core.errors import ConfigError

KEYS = {"data", "augment", "input", "batch_size", "num_images", "rounds"}


def run(config: DictConfig) -> dict[str, Any]:
    """Measures, prints the tables, and returns the results."""
    for key in ("batch_size", "num_images", "rounds"):
        if not isinstance(config[key], int) or config[key] < 1:
            raise ConfigError(f"{key}={config[key]}; expected a whole number, 1 or more")
    augment = build(config.augment)
    augment.check()
    if augment.on_device:
        raise ConfigError(
            f"augment.on_device ({', '.join(augment.on_device.names)}): suite=data measures the loader, not "
            "the device; remove augment.on_device"
        )
    source, _ = open_data(config)
    with tempfile.TemporaryDirectory(prefix="facerec-bench-") as folder:
        crops = SameCrops(source, num_images=config.num_images, folder=Path(folder))
        num_batches = max(1, crops.num_images // config.batch_size)
        print(
            f"data: {crops.num_images:,} crops of {config.data.root or 'the synthetic set'} in memory, batches of "
            f"{config.batch_size}, one worker process; {config.rounds} alternating rounds\n"
        )
        loaders = time_loaders(
            crops, augment, batch_size=config.batch_size, num_batches=num_batches, rounds=config.rounds
        )
        ours, theirs = time_parts(crops, augment, batch_size=config.batch_size, rounds=config.rounds)
    num_images = num_batches * config.batch_size
    per_image = {name: 1e6 * timing.median_s / num_images for name, timing in loaders.items()}
    num_images = min(config.batch_size, crops.num_images)
    parts_of = {
        name: {part: 1e6 * seconds / num_images for part, seconds in parts.items()}
        for name, parts in ((OURS, ours), (THEIRS, theirs))
    }
    names = ", ".join(name for transform in augment.transforms for name in transform) or "nothing"
    doing = {
        OURS: f"records, decode, augment ({names}), uint8",
        THEIRS: "ImageFolder, ToTensor, Normalize, float32",
    }
    rows = [_row(name, doing[name], per_image[name], loaders[name], loaders[THEIRS]) for name in (THEIRS, OURS)]
    print(text_table(("loader", "what it does", "images/s", "us per image", "times as fast", "range"), rows))
    print("\ntime of each part, in us per image on one core, measured in this process\n")
    for name in (THEIRS, OURS):
        parts = "   ".join(f"{part} {us:.0f}" for part, us in parts_of[name].items())
        print(f"{name:<12} {parts}   total {sum(parts_of[name].values()):.0f}; with the loader {per_image[name]:.0f}")
    return {
        "num_images": crops.num_images,
        "batch_size": config.batch_size,
        "loaders": {name: {**vars(timing), "us_per_image": per_image[name]} for name, timing in loaders.items()},
        "parts_us_per_image": parts_of,
    }


def _row(name: str, doing: str, us: float, timing: Timing, theirs: Timing) -> list[str]:
    """Computes ratios of their time to ours; `alternate` puts ours first."""
    faster = (1.0, (1.0, 1.0)) if name == THEIRS else (theirs.ratio, theirs.ratio_range)
    return [name, doing, f"{1e6 / us:,.0f}", f"{us:.0f}", f"{faster[0]:.2f}", f"{faster[1][0]:.2f}-{faster[1][1]:.2f}"]
