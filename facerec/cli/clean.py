"""`facerec clean`: proposals for a cleaner set, from the embeddings of its images; and the set that follows."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from facerec.analysis.cleaning import Cleaner
from facerec.analysis.proposals import Proposal, applied, read_proposals, write_proposals
from facerec.cli.arguments import check_arguments, check_keys
from facerec.cli.clean_pictures import Benchmark, write_pictures
from facerec.cli.summary import own_command
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, DataError
from facerec.data.packing import PackableSource, pack_training_set
from facerec.data.pairs import file_hash, read_pairs
from facerec.data.relabelled import RelabelledSource
from facerec.data.sources import open_source

PROPOSALS_FILE, ABOUT_FILE, CLEANED_FOLDER = "proposals.csv", "cleaning.json", "cleaned"
MUCH = 0.1
"""The share of a set that is proposed, above which a user is warned."""
KINDS = {
    "unreadable": "images that cannot be read",
    "mislabelled": "images that look like another identity",
    "two_people": "images of a second person under one name",
    "one_person": "identities that are another one too",
    "duplicate": "images that occur twice",
    "in_benchmark": "identities that occur in a benchmark",
}


@dataclass(frozen=True, kw_only=True)
class CleanSettings:
    """The keys of clean.yaml."""

    model: str | None
    out: str
    apply: bool
    against: list[str]
    min_score: float
    min_correlation: float
    pictures: int
    device: str
    batch_size: int
    num_threads: int | None
    seed: int


def run(config: DictConfig, overrides: list[str]) -> int:
    """Looks, or applies, and prints what came of it. Returns the exit code."""
    settings = _settings(config)
    values: Any = OmegaConf.to_container(config.data)
    source = open_source(**check_arguments(open_source, values, section="data"))
    if settings.apply:
        _apply(source, settings)
    else:
        _look(source, settings, overrides)
    return 0


def _settings(config: DictConfig) -> CleanSettings:
    check_keys(config, {"data", *CleanSettings.__dataclass_fields__})
    check_keys(config.data, {"root", "merge"}, section="data")
    values: Any = OmegaConf.to_container(config)
    top = {key: values[key] for key in CleanSettings.__dataclass_fields__}
    settings = CleanSettings(**check_arguments(CleanSettings, top, section=""))
    for key in ("min_score", "min_correlation"):
        if not 0 < getattr(settings, key) <= 1:
            raise ConfigError(f"{key}={getattr(settings, key)}; expected a number above 0, up to 1")
    if (
        settings.batch_size < 1
        or settings.pictures < 0
        or (settings.num_threads is not None and settings.num_threads < 1)
    ):
        raise ConfigError("batch_size and num_threads are whole numbers from 1, pictures from 0")
    if settings.model is None and not settings.apply:
        raise ConfigError("model is not given; looking needs one: model=runs/..., or a .pt of InsightFace")
    return settings


def _look(source: PackableSource, settings: CleanSettings, overrides: Sequence[str]) -> None:
    from facerec.evaluation.embed_set import digest_of_weights, embed_set
    from facerec.evaluation.model import Model

    labels = source.labels
    if len(np.unique(labels)) < 2:
        raise DataError("the set has one identity; there is nothing to compare it with")
    out, num_threads = Path(settings.out).expanduser(), _num_threads(settings)
    _check_not_edited(out)
    benchmarks = {path: _benchmark(path) for path in settings.against}
    model = Model.open(str(settings.model), device=settings.device, batch_size=settings.batch_size, flip=True)
    weights = digest_of_weights((name, value.cpu().numpy()) for name, value in model.network.state_dict().items())
    embedded = embed_set(
        source, model.embed, out, model=weights, batch_size=settings.batch_size, num_threads=num_threads
    )
    cleaner = Cleaner(
        emb_ND=embedded.emb_ND,
        labels=labels,
        identities=source.identities,
        name=source.name,
        min_score=settings.min_score,
        seed=settings.seed,
    )
    proposals = [
        Proposal(kind="unreadable", action="drop", image=image, identity=source.identities[labels[image]], to="",
                 score=1.0, path=source.name(image), like=None, why=reason)
        for image, reason in sorted(embedded.unreadable.items())
    ]  # fmt: skip
    proposals += cleaner.mislabelled()
    proposals += cleaner.two_people()
    proposals += cleaner.one_person()
    proposals += cleaner.duplicates(embedded.thumbnails_NP, min_correlation=settings.min_correlation)
    for path, benchmark in benchmarks.items():
        emb_MD = _embedded(benchmark, model, batch_size=settings.batch_size)
        proposals += cleaner.in_benchmark(emb_MD, benchmark=path)
    write_proposals(out / PROPOSALS_FILE, proposals)
    about = {"set": source.fingerprint(), "proposals": file_hash(out / PROPOSALS_FILE)}
    with atomic_file(out / ABOUT_FILE) as file:
        file.write(json.dumps(about).encode())
    for kind in KINDS:  # of an earlier look
        (out / f"{kind}.png").unlink(missing_ok=True)
    print(f"looked at    {len(labels):,} images of {len(np.unique(labels)):,} identities")
    _tell(proposals)
    print(f"proposals    {(out / PROPOSALS_FILE).resolve()}")
    pictures = write_pictures(
        source, proposals, out, cleaner=cleaner, num_examples=settings.pictures, benchmarks=benchmarks
    )
    for picture in pictures:
        print(f"picture      {picture.resolve()}")
    same = [override for override in overrides if override.startswith(("data.", "out="))]
    num_images = len({one.image for one in proposals if one.image is not None})
    if num_images > MUCH * len(labels):
        print(
            f"note         {num_images / len(labels):.0%} of the images; if that is not so, a better model finds fewer"
        )
    print("next         look, edit proposals.csv (delete lines, change actions), then")
    print(f"             {own_command()} clean {shlex.join(same)} apply=true")


def _apply(source: PackableSource, settings: CleanSettings) -> None:
    out = Path(settings.out).expanduser()
    proposals = read_proposals(out / PROPOSALS_FILE)
    if _about(out).get("set") != source.fingerprint():
        raise DataError(
            f"{out / PROPOSALS_FILE} was not written for this set as it is: it is another one, or images have come, "
            "gone or changed since. Its numbers would name other images: look again, into another folder"
        )
    samples, labels, names = applied(proposals, source.labels, source.identities)
    if not len(samples):
        raise DataError(f"{out / PROPOSALS_FILE} leaves no image; nothing was written")
    cleaned = RelabelledSource(source=source, labels=labels, identities=names)
    pack_training_set(cleaned, out / CLEANED_FOLDER, samples=samples, num_threads=_num_threads(settings))
    before, after = len(np.unique(source.labels)), len(np.unique(labels[samples]))
    print(f"cleaned set  {(out / CLEANED_FOLDER).resolve()}: {len(samples):,} of {len(source):,} images, ", end="")
    print(f"{after:,} identities ({before:,} before)")
    print(f"next         {own_command()} train data=on_disk data.root={(out / CLEANED_FOLDER).resolve()}")


def _about(out: Path) -> dict[str, str]:
    """Of which set the proposals in a folder are, and their hash as they were written; empty where none were."""
    try:
        return dict(json.loads((out / ABOUT_FILE).read_text()))
    except (OSError, ValueError):
        return {}


def _check_not_edited(out: Path) -> None:
    path = out / PROPOSALS_FILE
    if path.exists() and _about(out).get("proposals") != file_hash(path):
        raise ConfigError(
            f"{path} has been edited; looking again would replace it. Apply it first (apply=true), rename it, or "
            "choose another out"
        )


def _benchmark(path: str) -> Benchmark:
    """The images of a verification file, or of a set."""
    location = Path(path).expanduser()
    if not location.exists():
        raise ConfigError(f"against: {location} is not there; expected a .bin file, or a set")
    if location.suffix == ".bin":
        pairs = read_pairs(location)
        return Benchmark(num_images=len(pairs.images), image=pairs.decode)
    source = open_source(path)
    return Benchmark(num_images=len(source), image=source.image)


def _embedded(benchmark: Benchmark, model: Any, *, batch_size: int) -> np.ndarray:
    """float32 (M, D), of length 1."""
    from facerec.analysis.identity_centres import normalised

    parts = []
    for start in range(0, benchmark.num_images, batch_size):
        numbers = range(start, min(start + batch_size, benchmark.num_images))
        parts.append(model.embed(np.stack([benchmark.image(number) for number in numbers])))
    return normalised(np.concatenate(parts))


def _tell(proposals: Sequence[Proposal]) -> None:
    counts = Counter(one.kind for one in proposals)
    # A second person of forty images is forty lines, but one thing to look at.
    identities = Counter(kind for kind, _ in {(one.kind, one.identity) for one in proposals if one.image is not None})
    for kind, meaning in KINDS.items():
        if counts[kind] or kind != "unreadable":
            of_identities = f", of {identities[kind]:,} identities" if identities[kind] else ""
            print(f"{kind:<12} {counts[kind]:,} {meaning}{of_identities}")


def _num_threads(settings: CleanSettings) -> int:
    return settings.num_threads or os.cpu_count() or 1
