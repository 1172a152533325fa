"""`facerec evaluate`: scores a model, and what knows no faces beside it, on verification sets."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from facerec.cli.arguments import check_arguments
from facerec.cli.summary import VERIFICATION_COLUMNS, own_command, text_table, verification_row, where_it_lies
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError
from facerec.core.protocols import Embedder
from facerec.data.pairs import read_pairs
from facerec.evaluation.baselines import ColourHistogram, PixelPCA
from facerec.evaluation.embed import NetworkEmbedder
from facerec.evaluation.embed_set import digest_of_weights
from facerec.evaluation.model import Model
from facerec.evaluation.verification import VerificationBenchmark, verification_files
from facerec.networks.embedding_net import build_network

MAX_IMAGES_FOR_PCA = 4000


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """The keys of evaluate.yaml."""

    model: str
    sets: list[str] | None
    num_folds: int
    target_fars: list[float] | None
    baselines: bool
    device: str
    batch_size: int
    out: str | None


def run(config: DictConfig, overrides: list[str]) -> int:
    """Prints a table and writes the figures as JSON. Returns the exit code."""
    settings = EvaluateSettings(**check_arguments(EvaluateSettings, OmegaConf.to_container(config), section=""))  # type: ignore[arg-type]
    model = Model.open(settings.model, device=settings.device, batch_size=settings.batch_size)
    for warning in model.warnings:
        print(warning)
    out = _out_path(settings, model)
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work
    results: dict[str, dict[str, dict[str, float]]] = {}
    rows = []
    for path in _paths(settings.sets, model):
        benchmark = VerificationBenchmark(
            path=str(path),
            num_folds=settings.num_folds,
            target_fars=settings.target_fars,
            size_px=model.input_spec.size_px,
        )
        for name, embedder in _embedders(model, path, settings).items():
            figures = dict(benchmark.evaluate(embedder))
            rows.append(verification_row(f"{benchmark.name}: {name}", figures))
            results.setdefault(str(path), {})[name] = figures
    print(text_table(VERIFICATION_COLUMNS, rows))
    _write(out, model, results, num_folds=settings.num_folds)
    print(f"\nfigures      {out.resolve()}")
    run_dir = Path(settings.model).expanduser()
    if (run_dir / "overrides.json").exists():
        print(where_it_lies(run_dir, model.path))
        given = json.loads((run_dir / "overrides.json").read_text())
        same = shlex.join(one for one in given if not one.startswith(("run_dir=", "seed=")))
        print(f"next         {own_command()} train -m {same} seed=1,2,3")
    return 0


def _paths(sets: list[str] | None, model: Model) -> list[Path]:
    if sets is None:
        sets = model.card.get("trained_on", {}).get("benchmarks", [])
        if not sets:
            raise ConfigError("sets is not given, and the model names no benchmarks: give sets=[lfw.bin,...]")
    return verification_files(sets, key="sets")


def _write(out: Path, model: Model, results: dict[str, dict[str, dict[str, float]]], *, num_folds: int) -> None:
    """The figures, with those of other sets that the file has of the same weights."""
    weights = digest_of_weights((name, value.cpu().numpy()) for name, value in model.network.state_dict().items())
    about = {"model": str(model.path), "weights": weights, "num_folds": num_folds}
    try:
        before = json.loads(out.read_text())
        kept = dict(before["sets"]) if before.items() >= about.items() else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = {}
    with atomic_file(out) as file:
        file.write(json.dumps(about | {"sets": kept | results}, indent=1).encode())


def _embedders(model: Model, path: Path, settings: EvaluateSettings) -> dict[str, Embedder]:
    embedders: dict[str, Embedder] = {"model": model.embed}
    if settings.baselines:
        torch.manual_seed(0)
        untrained = build_network(model.card).to(next(model.network.parameters()).device)
        embedders["untrained network"] = NetworkEmbedder(
            network=untrained, input_spec=untrained.input_spec, batch_size=settings.batch_size
        )
        embedders["colour histogram"] = ColourHistogram()
        # Fitted on the benchmark's own images, without labels: that can only flatter it.
        pairs = read_pairs(path)
        images = [pairs.decode(i) for i in range(min(len(pairs.images), MAX_IMAGES_FOR_PCA))]
        embedders["PCA of 16x16 pixels"] = PixelPCA().fit(images)
    return embedders


def _out_path(settings: EvaluateSettings, model: Model) -> Path:
    if settings.out is not None:
        return Path(settings.out).expanduser()
    given = Path(settings.model).expanduser()
    return (given if given.is_dir() else Path.cwd()) / "evaluation.json"
