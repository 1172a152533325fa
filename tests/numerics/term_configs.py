"""The terms of configs/loss, so that a new one is tested without being listed."""

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from facerec.losses.term import Term

FOLDER = Path(__file__).parents[2] / "configs" / "loss"
TERMS = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))


def build_term(name: str, *, num_classes: int, embedding_dim: int, **changes: Any) -> Term:
    """The term of a YAML, as it resolves for so many classes and dimensions; the teacher is `first_pixels`."""
    neck = {"embedding_dim": embedding_dim}
    config: Any = OmegaConf.create({"neck": neck, "loss": OmegaConf.load(FOLDER / f"{name}.yaml")})
    if name == "distillation":
        config.loss.distillation.teacher = None
    arguments = OmegaConf.to_container(config, resolve=True)["loss"][name]
    room, _, target = arguments.pop("_target_").rpartition(".")
    if "num_classes" in arguments:
        arguments["num_classes"] = num_classes
    if name == "distillation":
        arguments["teacher"] = partial(first_pixels, count=embedding_dim)
    return getattr(importlib.import_module(room), target)(**arguments | changes)


def first_pixels(images: np.ndarray, *, count: int) -> np.ndarray:
    """Embeds an image as some of its pixels, less grey."""
    return images.reshape(len(images), -1)[:, :count].astype(np.float32) - 128
