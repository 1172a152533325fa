"""Fixtures that walk configs/head, so that a new head is tested without being listed."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch import nn

from facerec.cli.config.config_files import config_directories, group_options

HEAD_FOLDER = Path(__file__).parents[2] / "configs" / "head"
HEAD_CONFIGS = [HEAD_FOLDER / f"{name}.yaml" for name in group_options("head", config_directories())]


def read_head_config(path: Path) -> dict[str, Any]:
    """The plain dictionary of a head's YAML, with what the files of its defaults list bring in."""
    config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))
    shared = [HEAD_FOLDER / f"{name}.yaml" for name in config.pop("defaults", []) if name != "_self_"]
    return {key: value for file in shared for key, value in read_head_config(file).items()} | config


def build(config: dict[str, Any], **overrides: Any) -> nn.Module:
    """The head of a configuration, with some keys replaced."""
    room, name = config["_target_"].rsplit(".", 1)
    arguments = {key: value for key, value in config.items() if key != "_target_"} | overrides
    return getattr(importlib.import_module(room), name)(**arguments)


@pytest.fixture(params=HEAD_CONFIGS, ids=lambda path: path.stem)
def head_config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of every head in configs/head, one after the other."""
    return read_head_config(request.param)


@pytest.fixture(
    params=[
        path
        for path in HEAD_CONFIGS
        if read_head_config(path)["_target_"].endswith(".MarginHead")
        and "num_sub_centres" not in read_head_config(path)
    ],
    ids=lambda path: path.stem,
)
def margin_config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of every head of the combined-margin family, one after the other."""
    return read_head_config(request.param)


@pytest.fixture(name="build")
def build_fixture() -> Callable[..., nn.Module]:
    """`build(config, **overrides)`."""
    return build
