"""`facerec bench suite=head`: time and memory of the engines and the margins, as tables."""

import sys
from typing import Any

import torch
from omegaconf import DictConfig

from facerec.bench.head_cost import ENGINES, Size, measure_peak, time_engines, time_margins
from facerec.cli.config.arguments import build
from facerec.cli.config.compose import compose
from facerec.cli.config.config_files import config_directories, group_options
from facerec.cli.summary import text_table
from facerec.core.device import choose_device
from facerec.core.errors import ConfigError

KEYS = {"num_classes", "engines", "batch_size", "embedding_dim", "device", "num_threads", "rounds"}
BASELINE = "norm_softmax"


def run(config: DictConfig) -> dict[str, Any]:
    """Measures, prints the tables, and returns the results."""
    _check(config)
    return _measure(config)


def _check(config: DictConfig) -> None:
    for engine in config.engines:
        if engine not in ENGINES:
            raise ConfigError(
                f"engines={list(config.engines)}: no engine {engine}; expected some of {', '.join(ENGINES)}"
            )
    numbers = [*config.num_classes, config.batch_size, config.embedding_dim, config.rounds]
    if config.num_threads is not None:
        numbers.append(config.num_threads)
    if any(not isinstance(number, int) or number < 1 for number in numbers) or min(config.num_classes, default=2) < 2:
        raise ConfigError(
            "num_classes, batch_size, embedding_dim, num_threads and rounds are whole numbers above 0 (classes: 1)"
        )
    choose_device(config.device)


def _measure(config: DictConfig) -> dict[str, Any]:
    num_threads = config.num_threads or torch.get_num_threads()
    device = choose_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {num_threads} threads"
    print(
        f"head: B = {config.batch_size}, D = {config.embedding_dim}, fp32, {name}; {config.rounds} alternating rounds"
    )
    sizes = [
        Size(
            num_classes=num_classes,
            batch_size=config.batch_size,
            embedding_dim=config.embedding_dim,
            device=config.device,
            num_threads=num_threads,
        )
        for num_classes in config.num_classes
    ]
    figures: dict[str, Any] = {"engines": [], "margins": []}
    for size in sizes:
        print(f"... {size.num_classes:,} classes", file=sys.stderr)
        timings = time_engines(size, config.engines, rounds=config.rounds)
        for engine, timing in timings.items():
            peak = measure_peak(size, engine)
            figures["engines"].append({"num_classes": size.num_classes, "engine": engine, **vars(timing), **vars(peak)})
    print("\n" + text_table(ENGINE_COLUMNS, [_engine_row(row) for row in figures["engines"]]))
    heads = {option: _head(option) for option in sorted(_head_names(), key=lambda option: option != BASELINE)}
    for engine in ("dense", "chunked"):
        print(f"... {len(heads)} margins, {engine}", file=sys.stderr)
        for head, timing in time_margins(heads, sizes[0], engine=engine, rounds=config.rounds).items():
            figures["margins"].append({"head": head, "engine": engine, **vars(timing)})
    print(f"\nrelative to {BASELINE}, C = {sizes[0].num_classes:,}\n")
    print(text_table(MARGIN_COLUMNS, [_margin_row(row) for row in figures["margins"]]))
    return figures


ENGINE_COLUMNS = ("classes", "engine", "ms per step", "relative", "range", "peak GB", "without centres GB")
MARGIN_COLUMNS = ("head", "engine", "ms per step", "relative", "range")


def _engine_row(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['num_classes']:,}",
        row["engine"],
        *_times(row),
        f"{row['total'] / 1e9:.2f}",
        f"{row['beyond'] / 1e9:.2f}",
    ]


def _margin_row(row: dict[str, Any]) -> list[str]:
    return [row["head"], row["engine"], *_times(row)]


def _times(row: dict[str, Any]) -> list[str]:
    lowest, highest = row["ratio_range"]
    return [f"{1e3 * row['median_s']:.1f}", f"{row['ratio']:.2f}", f"{lowest:.2f}-{highest:.2f}"]


def _head_names() -> list[str]:
    return group_options("head", config_directories())


def _head(option: str) -> Any:
    """Returns a function that makes the head of a YAML in configs/head."""
    section = compose("train", [f"head={option}"]).head
    return lambda **sizes: build({**section, **sizes})
