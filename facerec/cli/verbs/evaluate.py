"""`facerec evaluate`: evaluates a model on benchmarks, and optionally baselines that do not know faces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import check_keys
from facerec.cli.launching.launch import in_processes
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.launching.process_group import sharing
from facerec.cli.summary import metric_table
from facerec.cli.verbs.parts import checked_benchmarks, configured_benchmarks
from facerec.cli.verbs.set_verbs import read_settings
from facerec.core.errors import ConfigError
from facerec.core.metric import Metric, values_of
from facerec.core.protocols import Embedder, Evaluator
from facerec.core.typed_text import override_of
from facerec.data.verification_file import read_pairs
from facerec.embedding.model import Model, open_model
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.evaluation.baselines import ColourHistogram, PixelPCA
from facerec.evaluation.unbalanced import constant_answer_marks
from facerec.evaluation.verification import VerificationBenchmark, verification_files
from facerec.networks.embedding_net import build_network
from facerec.processes.agreement import failing_together
from facerec.processes.group import Processes
from facerec.processes.own_device import own_device
from facerec.runs.choice import split_choice
from facerec.runs.run_directory import SETTINGS, RunDirectory, write_evaluation

MAX_IMAGES_FOR_PCA = 4000
MODEL = "model"  # the model's column, and its key in the file; baselines have others


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """The keys of evaluate.yaml."""

    model: str
    trust: str | list[str] | None
    sets: list[str] | None
    num_folds: int
    target_fars: list[float] | None
    baselines: bool
    device: str
    batch_size: int
    out: str | None


def run(config: DictConfig, overrides: list[str]) -> int:
    """Prints a table and writes the metrics as JSON. Returns the exit code."""
    device = _settings(config).device
    return in_processes("evaluate", config, overrides, work=work, device=device, goes_on="from the beginning")


def work(config: DictConfig, overrides: list[str]) -> int:
    """Evaluates in this process, which a launcher may have started with others; see `run`."""
    with sharing(launch_settings(config), device=config.device) as processes:
        return _evaluate(config, _settings(config), processes)


def _settings(config: DictConfig) -> EvaluateSettings:
    check_keys(config, {"eval", "launch", *EvaluateSettings.__dataclass_fields__})
    check_keys(config.eval, {"benchmarks"}, section="eval")
    values: Any = OmegaConf.to_container(config)
    return read_settings(EvaluateSettings, values, lowest={"batch_size": 1})


def _evaluate(config: DictConfig, settings: EvaluateSettings, processes: Processes) -> int:
    sections: Any = OmegaConf.to_container(config.eval.benchmarks)
    with failing_together(processes):
        configured = configured_benchmarks(sections)
        device = str(own_device(settings.device, key="device"))
        model = open_model(settings.model, device=device, batch_size=settings.batch_size, trust=settings.trust)
        for warning in model.warnings:
            print(warning)
        print(f"model        {model.note or model.path}\n")
        out = _out_path(settings, model)
        if processes.is_first:
            out.parent.mkdir(parents=True, exist_ok=True)  # before the long work
        paths = _paths(settings.sets, model, has_others=bool(configured))
        verifications = [
            VerificationBenchmark(
                path=str(path),
                num_folds=settings.num_folds,
                target_fars=settings.target_fars,
                size_px=model.input_spec.size_px,
            )
            for path in paths
        ]
        benchmarks = checked_benchmarks([*configured, *verifications])
    results: dict[str, dict[str, dict[str, float]]] = {}
    columns: dict[str, list[Metric]] = {}
    of_model: list[Metric] = []
    for benchmark in benchmarks:
        for name, embedder in _embedders(model, benchmark, settings, device=device).items():
            metrics = list(benchmark.evaluate(embedder))
            columns[f"{benchmark.name}: {name}"] = metrics
            results.setdefault(_key(benchmark), {})[name] = values_of(metrics)
            if name == MODEL:
                of_model += [metric.within(f"eval/{benchmark.name}") for metric in metrics]
    if not processes.is_first:
        return 0
    print(metric_table(columns))
    for mark in constant_answer_marks(of_model):
        print(f"\n{mark}")
    own = {one.name: section for one, section in zip(configured, sections.values(), strict=True)}
    _write(out, model, results, of_model, num_folds=settings.num_folds, own=own)
    print(f"\nmetrics      {out}")
    run = RunDirectory(split_choice(settings.model)[0])
    if run.is_run:
        is_here = run.path.parent == Path()  # its other folders need not be runs
        beside = run.path if is_here else run.path.parent
        print(f"next         {command('report', override_of('run_dir', beside))}")
    return 0


def _paths(sets: list[str] | None, model: Model, *, has_others: bool) -> list[Path]:
    if sets is None:
        sets = model.card.get("trained_on", {}).get("benchmarks", [])
        if not sets and not has_others:
            raise ConfigError(
                "sets is not given, and the model was trained beside no verification set: give sets=[lfw.bin,...], or "
                "eval/benchmarks=[...] as in its training"
            )
    return verification_files(sets, key="sets")


def _key(benchmark: Evaluator) -> str:
    return str(benchmark.path) if isinstance(benchmark, VerificationBenchmark) else benchmark.name


def _write(
    out: Path,
    model: Model,
    results: Mapping[str, Mapping[str, Mapping[str, float]]],
    metrics: Sequence[Metric],
    *,
    num_folds: int,
    own: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes the results, and keeps the file's results of other benchmarks for the same weights."""
    more = {"model": str(model.path), "weights": model.digest(), "num_folds": num_folds, "sets": results, SETTINGS: own}
    write_evaluation(out, step=model.card.get("step"), metrics=metrics, more=more)


def _embedders(model: Model, benchmark: Evaluator, settings: EvaluateSettings, *, device: str) -> dict[str, Embedder]:
    embedders: dict[str, Embedder] = {MODEL: model}
    if settings.baselines:
        torch.manual_seed(0)
        untrained = build_network(model.card, trust=settings.trust).to(device)
        embedders["untrained network"] = NetworkEmbedder(
            network=untrained, input_spec=untrained.input_spec, batch_size=settings.batch_size
        )
        embedders["colour histogram"] = ColourHistogram()
        if isinstance(benchmark, VerificationBenchmark):
            # Fitted on the benchmark's own images, without labels: this can only raise its score.
            pairs = read_pairs(benchmark.path)
            images = [pairs.decode(i) for i in range(min(len(pairs.images), MAX_IMAGES_FOR_PCA))]
            embedders["PCA of 16x16 pixels"] = PixelPCA().fit(images)
    return embedders


def _out_path(settings: EvaluateSettings, model: Model) -> Path:
    if settings.out is not None:
        return Path(settings.out).expanduser()
    given, which = split_choice(settings.model)
    run = RunDirectory(given if given.is_dir() else Path())
    return run.evaluation if which is None else run.evaluation_of(model.path)
