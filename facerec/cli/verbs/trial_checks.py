"""Checks the files that the trials of a grid need, before the first starts: every set, benchmark and network once."""

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.arguments import build
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.verbs.parts import build_loader, build_network, build_objective, open_benchmarks, open_data
from facerec.cli.verbs.run_length import timetable_of
from facerec.cli.verbs.train_settings import sample_order, training_settings
from facerec.core.log import LOGGER, log_to
from facerec.core.source import Source
from facerec.networks.embedding_net import EmbeddingNet
from facerec.networks.weights import load_initial, read_initial
from facerec.processes.group import Processes

Value = TypeVar("Value")


def check_trials(configs: Sequence[DictConfig]) -> list[int]:
    """Opens and builds what the trials need, and returns the number of steps of each.

    What several trials share is opened once. Networks and heads are built on the meta device, where they hold no
    values. Nothing is written, except for synthetic faces, which are drawn into their cache.

    Args:
        configs: composed and checked.

    Raises:
        ConfigError, DataError, ModelError: what the first trial concerned would raise before its first step.
    """
    before = LOGGER.level
    log_to(None, level=logging.ERROR)  # each trial logs its own notes
    try:
        checks = _Checks()
        return [checks.check(config) for config in configs]
    finally:
        LOGGER.setLevel(before)


class _Checks:
    """Remembers what was checked, by the settings that it depends on."""

    def __init__(self) -> None:
        self._done: dict[str, Any] = {}

    def check(self, config: DictConfig) -> int:
        """Checks one trial, and returns its number of steps."""
        data = [config.data.get(key) for key in ("root", "source", "expect", "first_samples")]
        source = self._once("data", data, lambda: open_data(config)[0])
        parts = [config.backbone, config.neck, config.input]
        network: EmbeddingNet = self._once("network", parts, lambda: _without_values(lambda: build_network(config)))
        centres = [config.head, config.loss, *data]
        self._once("objective", centres, lambda: _without_values(lambda: build_objective(config, source)))
        if config.init_from is not None:
            given = [config.init_from, config.trust, *parts]
            self._once("weights", given, lambda: _check_weights(config, network))
        self._check_loader(config, source, network)
        size_px = network.input_spec.size_px
        evaluation = training_settings(config)[1]
        best = config.checkpoint.best_metric
        sets = [evaluation.benchmarks, evaluation.sets, evaluation.num_folds, size_px, best]
        self._once(
            "benchmarks",
            [*sets, *(data if evaluation.sets is None else [])],
            lambda: open_benchmarks(
                config.eval, source, num_folds=evaluation.num_folds, size_px=size_px, best_metric=best
            ),
        )
        return timetable_of(config, source).num_steps

    def _once(self, what: str, settings: Sequence[Any], make: Callable[[], Value]) -> Value:
        plain = [OmegaConf.to_container(one) if OmegaConf.is_config(one) else one for one in settings]
        key = f"{what} {json.dumps(plain, sort_keys=True, default=str)}"
        if key not in self._done:
            self._done[key] = make()
        return self._done[key]

    def _check_loader(self, config: DictConfig, source: Source, network: EmbeddingNet) -> None:
        processes = Processes(world_size=launch_settings(config).num_processes or 1)
        size_px, loading = network.input_spec.size_px, training_settings(config)[2]
        loader = build_loader(
            config, source, order=sample_order(config), size_px=size_px, processes=processes, **vars(loading)
        )
        build(config.freeze).check_micro_batch(network, num_samples=loader.micro_batch_size)


def _without_values(make: Callable[[], Value]) -> Value:
    """Builds on the meta device; if a part of the user's own cannot be built there, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make()
        except (RuntimeError, NotImplementedError):
            return make()


def _check_weights(config: DictConfig, network: EmbeddingNet) -> None:
    stored = read_initial(config.init_from, network, trust=training_settings(config)[0].trust)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, for each tensor: a network without values keeps none
        load_initial(network, stored)
