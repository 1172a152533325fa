"""Builds the parts of a training from its configuration: data, network, objective, benchmarks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.arguments import build, check_arguments
from facerec.core.errors import ConfigError, DataError
from facerec.core.log import LOGGER
from facerec.core.part_check import check_part
from facerec.core.protocols import Evaluator
from facerec.core.seeding import torch_seed_of
from facerec.core.source import Source, check_source
from facerec.data.loader import BatchLoader
from facerec.data.sampling.sampler import SampleOrder
from facerec.data.sources import Subset
from facerec.evaluation.verification import VerificationBenchmark, verification_files
from facerec.heads.head import Head
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet, count_macs, count_parameters, described, join
from facerec.processes.group import Processes


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The section `data.expect`: the numbers that the set must have."""

    name: str | None = None
    num_identities: int | None = None
    num_images: int | None = None

    def check(self, source: Source, root: object) -> None:
        """Raises DataError if the set has other numbers."""
        found = {"identities": source.num_classes, "images": len(source)}
        expected = {"identities": self.num_identities, "images": self.num_images}
        wrong = [kind for kind in found if expected[kind] not in (None, found[kind])]
        if wrong:
            wanted = " and ".join(f"{expected[kind]} {kind}" for kind in wrong)
            given = " and ".join(f"{found[kind]} {kind}" for kind in wrong)
            keys = " ".join(f"data.expect.num_{kind}=null" for kind in wrong)
            raise DataError(
                f"{f'data={self.name}' if self.name else 'data.expect'} expects {wanted}, but the set at {root} has "
                f"{given}. Check data.root=; for your own set use data=on_disk, for another edition {keys}"
            )


def expectation(config: DictConfig) -> Expectation:
    """Returns the expected numbers of the configuration; without the section, no numbers."""
    values: Any = OmegaConf.to_container(config.data.get("expect") or OmegaConf.create())
    return Expectation(**check_arguments(Expectation, values, section="data.expect"))


def open_data(config: DictConfig) -> tuple[Source, str]:
    """Returns the training set, and the fingerprint of the part of it that the configuration uses.

    Raises:
        DataError: the set cannot be used, or has other numbers than `data.expect`.
    """
    source = build(config.data.source)
    check_source(source)
    expectation(config).check(source, config.data.root)
    for note in source.notes():
        LOGGER.warning(note)
    fingerprint = source.fingerprint()
    if (num_samples := config.data.first_samples) is not None:
        if not 1 <= num_samples <= len(source):
            raise DataError(f"data.first_samples={num_samples}; the set has {len(source)}")
        source = Subset(source=source, indices=range(num_samples))
    return source, fingerprint


def build_network(config: DictConfig) -> EmbeddingNet:
    """Builds backbone, neck and preprocessing, with weights drawn from the seed."""
    torch.manual_seed(torch_seed_of("network", config.seed))
    spec = build(config.input)
    backbone = build(config.backbone)
    return join(backbone=backbone, neck=lambda **shape: build(config.neck, **shape), input_spec=spec)


def build_objective(config: DictConfig, source: Source) -> Objective:
    """Builds the head, if any, for the identities of the data, and the terms of `loss`."""
    head = _build_head(config, source) if config.head is not None and "_target_" in config.head else None
    num_classes = source.num_classes if head is None else head.centres.num_classes
    terms = {
        name: build(section, **({"num_classes": num_classes} if "num_classes" in section else {}))
        for name, section in config.loss.items()
    }
    return Objective(head=head, terms=terms)


def _build_head(config: DictConfig, source: Source) -> Head:
    """Returns the number of identities; larger if head.num_classes asks for more."""
    asked_for = config.head.get("num_classes")
    if asked_for is None:
        return build(config.head, num_classes=source.num_classes)
    if asked_for < source.num_classes:
        raise ConfigError(
            f"head.num_classes={asked_for}, but {config.data.root or 'the data'} has {source.num_classes} identities; "
            "leave it null, or give at least this number"
        )
    return build(config.head)


def build_loader(
    config: DictConfig,
    source: Source,
    *,
    order: SampleOrder,
    num_workers: int,
    on_corrupt: str,
    size_px: tuple[int, int],
    processes: Processes,
) -> BatchLoader:
    """Builds the loader of the training set; see `BatchLoader`, also for its errors."""
    global_batch_size = config.data.global_batch_size
    return BatchLoader(
        source=source,
        augment=build(config.augment),
        global_batch_size=global_batch_size,
        micro_batch_size=config.trainer.micro_batch_size or global_batch_size,
        seed=config.seed,
        order=order,
        num_workers=num_workers,
        on_corrupt=on_corrupt,
        size_px=size_px,
        processes=processes,
    )


def open_benchmarks(
    settings: Mapping[str, Any],
    source: Source,
    *,
    num_folds: int,
    size_px: tuple[int, int],
    best_metric: str | None = None,
) -> list[Evaluator]:
    """Returns the evaluators of `eval.benchmarks`, then the verification sets of `eval.sets`.

    Args:
        settings: section `eval`.
        source: the training data; if `sets` is null, the `.bin` files in its folder are used.
        num_folds: number of folds of the verification sets.
        size_px: height and width of their images.
        best_metric: `checkpoint.best_metric`, which must be a metric of one of them.

    Raises:
        ConfigError: a set does not exist, an evaluator lacks a part of the protocol, two have the same name, or none
            has the best metric.
        DataError: a set cannot be read, has too few pairs for the folds, or images of another size than `size_px`.
    """
    configured = configured_benchmarks(settings["benchmarks"])
    sets = settings["sets"]
    paths = verification_files(sets, key="eval.sets") if sets is not None else None
    if paths is None:
        paths = source.benchmarks()
        if not paths and not configured:
            LOGGER.warning("no benchmark: the folder of the training data has no .bin file; set eval.sets=[...]")
    benchmarks = checked_benchmarks(
        [
            *configured,
            *(VerificationBenchmark(path=str(path), num_folds=num_folds, size_px=size_px) for path in paths),
        ]
    )
    if best_metric is not None:
        _check_best_metric(best_metric, benchmarks)
    return benchmarks


def _check_best_metric(best_metric: str, benchmarks: Sequence[Evaluator]) -> None:
    """Refuses a metric that no benchmark has, as far as their metrics are known before an evaluation."""
    if not benchmarks:
        raise ConfigError(
            f"checkpoint.best_metric={best_metric}, but there is no benchmark: give eval.sets=[...], or set it to null"
        )
    expected: list[str] = []
    for benchmark in benchmarks:
        path, known = f"eval/{benchmark.name}/", getattr(benchmark, "metric_names", None)
        if known is None and best_metric.startswith(path):
            return  # the first evaluation shows the metrics of a benchmark that does not name them
        expected += [f"{path}{name}" for name in known] if known is not None else [f"{path}<its metric>"]
    if best_metric not in expected:
        raise ConfigError(f"checkpoint.best_metric={best_metric}; expected one of {', '.join(expected)}, or null")


def configured_benchmarks(sections: Mapping[str, Any]) -> list[Evaluator]:
    """Builds the evaluators of the group eval/benchmarks.

    Args:
        sections: the sections by their keys, each with a `_target_`.

    Raises:
        ConfigError: an evaluator lacks a part of the protocol `Evaluator`.
    """
    evaluators: list[Evaluator] = []
    for key, section in sections.items():
        evaluator = build(section)
        check_part(evaluator, Evaluator, key=f"eval.benchmarks.{key}", kind="evaluator")
        evaluators.append(evaluator)
    return evaluators


def checked_benchmarks(evaluators: Sequence[Evaluator]) -> list[Evaluator]:
    """Returns the evaluators, after checking that their names differ and that each can read its files.

    Raises:
        ConfigError: two have the same name.
        DataError: an evaluator cannot read its files; see its `check`.
    """
    by_name: dict[str, Evaluator] = {}
    for evaluator in evaluators:
        other = by_name.setdefault(evaluator.name, evaluator)
        if other is not evaluator and (_origin(other) != _origin(evaluator) or not hasattr(other, "path")):
            raise ConfigError(
                f"eval: {_origin(other)} and {_origin(evaluator)} would both be logged as eval/{evaluator.name}; "
                "rename one"
            )
        if hasattr(evaluator, "check"):
            evaluator.check()
    return list(by_name.values())


def _origin(evaluator: Evaluator) -> str:
    return str(getattr(evaluator, "path", type(evaluator).__name__))


def log_sizes(network: EmbeddingNet, source: Source, root: object) -> None:
    """Logs one line: the network, its parameters and multiply-accumulates, the data."""
    LOGGER.info(
        "network %s: %.2fM parameters, %.2f GMAC; data %s: %d images of %d identities",
        described(network.card()["backbone"]),
        count_parameters(network) / 1e6,
        count_macs(network) / 1e9,
        root or "synthetic",
        len(source),
        source.num_classes,
    )
