"""`facerec clean`: proposes changes for a cleaner set from the embeddings of its images; and applies them."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from facerec.analysis.cleaning import Cleaner
from facerec.analysis.proposal_pictures import write_pictures
from facerec.analysis.proposals import Proposal, applied, read_proposals, write_proposals
from facerec.cli.commands import command
from facerec.cli.config.arguments import check_keys
from facerec.cli.launching.launch import in_processes
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.verbs.set_verbs import (
    check_model_size,
    check_not_inside,
    made_folder,
    open_set,
    read_settings,
    refuse_unread,
    size_overrides,
)
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, DataError
from facerec.core.file_hash import file_hash
from facerec.core.protocols import Images
from facerec.core.source import Source
from facerec.core.threads import num_cores
from facerec.core.typed_text import override_of
from facerec.data.packing import pack_training_set
from facerec.data.pair_images import PairImages
from facerec.data.sources import AnySource, open_source
from facerec.data.sources.relabelled import RelabelledSource
from facerec.data.verification_file import read_pairs

if TYPE_CHECKING:
    from facerec.embedding.loop import Embeddings
    from facerec.processes.group import Processes

PROPOSALS_FILE, ABOUT_FILE, CLEANED_FOLDER = "proposals.csv", "cleaning.json", "cleaned"
MUCH = 0.1
"""A user is warned if proposals concern a larger share of the set."""
KINDS = {
    "unreadable": "images that cannot be read",
    "mislabelled": "images that look like another identity",
    "two_people": "images of a second person under one name",
    "one_person": "identities that are the same person as another",
    "duplicate": "images that occur twice",
    "in_benchmark": "identities that occur in a benchmark",
}


@dataclass(frozen=True, kw_only=True)
class CleanSettings:
    """The keys of clean.yaml."""

    model: str | None
    trust: str | list[str] | None
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
    """Proposes, or applies, and prints the result. Returns the exit code."""
    settings = _settings(config, overrides)
    if settings.apply:
        source, out = _opened(config, settings)
        _apply(source, out, settings)
        return 0
    return in_processes("clean", config, overrides, work=work, device=settings.device, goes_on="from what is embedded")


def work(config: DictConfig, overrides: list[str]) -> int:
    """Proposes in this process, which a launcher may have started with others; see `run`."""
    from facerec.cli.launching.process_group import sharing
    from facerec.processes.agreement import failing_together

    settings = _settings(config, overrides)
    with sharing(launch_settings(config), device=settings.device) as processes, ExitStack() as held:
        with failing_together(processes):
            source, out = _opened(config, settings)
            held.enter_context(made_folder(out))
        found = _embedded(source, out, settings, processes)
        if processes.is_first:
            _look(source, out, settings, overrides, found)
    return 0


def _opened(config: DictConfig, settings: CleanSettings) -> tuple[AnySource, Path]:
    source = open_set(config)
    out = Path(settings.out).expanduser()
    check_not_inside(out, config.data.root)
    return source, out


def _settings(config: DictConfig, overrides: list[str]) -> CleanSettings:
    check_keys(config, {"data", "input", "launch", *CleanSettings.__dataclass_fields__})
    check_keys(config.data, {"root", "merge"}, section="data")
    values: Any = OmegaConf.to_container(config)
    lowest = {"batch_size": 1, "num_threads": 1, "pictures": 0, "seed": 0}
    settings = read_settings(CleanSettings, values, lowest=lowest)
    for key in ("min_score", "min_correlation"):
        if not 0 < getattr(settings, key) <= 1:
            raise ConfigError(f"{key}={getattr(settings, key)}; expected a number above 0, up to 1")
    if settings.apply:
        unread = {"launch", *CleanSettings.__dataclass_fields__} - {"out", "apply", "num_threads"}
        why = f"apply=true applies {Path(settings.out) / PROPOSALS_FILE}, and ignores the settings of the search"
        refuse_unread(overrides, unread, why=why)
    elif settings.model is None:
        raise ConfigError("model is not given; the search needs one: model=runs/..., or an InsightFace .pt")
    return settings


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The embeddings of the set, and the images and embeddings of its benchmarks, by the given paths."""

    embedded: "Embeddings"
    benchmarks: dict[str, Images]
    of_benchmarks: dict[str, np.ndarray]


def _embedded(source: Source, out: Path, settings: CleanSettings, processes: "Processes") -> _Found:
    from facerec.analysis.duplicates import thumbnail
    from facerec.embedding.embed_set import embed_set
    from facerec.embedding.loop import Loop, embed_for_now
    from facerec.embedding.model import open_model
    from facerec.processes.agreement import failing_together
    from facerec.processes.own_device import own_device

    with failing_together(processes):
        if len(np.unique(source.labels)) < 2:
            raise DataError("the set has one identity; there is nothing to compare it with")
        _check_not_edited(out)
        benchmarks = {path: _benchmark(path, source.size_px) for path in settings.against}
        device = str(own_device(settings.device, key="device"))
        model = open_model(
            str(settings.model), device=device, batch_size=settings.batch_size, flip=True, trust=settings.trust
        )
        check_model_size(model.input_spec.size_px, source.size_px, key=f"model={settings.model}")
    loop = Loop(
        batch_size=settings.batch_size,
        num_threads=settings.num_threads,
        unit_length=True,
        beside={"thumbnails": thumbnail},
    )
    embedded = embed_set(source, model, out, loop, described=model.described())
    of_benchmarks = {}
    for path, benchmark in benchmarks.items():
        loop = replace(loop, beside={}, stops_at_unreadable=True, what=f"embedding {path}")
        of_benchmarks[path] = embed_for_now(benchmark, model, loop).emb_ND
    return _Found(embedded=embedded, benchmarks=benchmarks, of_benchmarks=of_benchmarks)


def _look(source: Source, out: Path, settings: CleanSettings, overrides: Sequence[str], found: _Found) -> None:
    labels = source.labels
    cleaner = Cleaner(
        emb_ND=found.embedded.emb_ND,
        labels=labels,
        identities=source.identities,
        name=source.name,
        min_score=settings.min_score,
        seed=settings.seed,
    )
    proposals = [
        Proposal(kind="unreadable", action="drop", image=image, identity=source.identities[labels[image]], to="",
                 score=1.0, path=source.name(image), like=None, why=reason)
        for image, reason in sorted(found.embedded.unreadable.items())
    ]  # fmt: skip
    proposals += cleaner.mislabelled()
    proposals += cleaner.two_people()
    proposals += cleaner.one_person()
    proposals += cleaner.duplicates(found.embedded.beside["thumbnails"], min_correlation=settings.min_correlation)
    for path, emb_MD in found.of_benchmarks.items():
        proposals += cleaner.in_benchmark(emb_MD, benchmark=path)
    _write(out, proposals, source)
    for kind in KINDS:  # pictures of an earlier search
        (out / f"{kind}.png").unlink(missing_ok=True)
    print(f"searched     {len(labels):,} images of {len(np.unique(labels)):,} identities")
    _tell(proposals)
    pictures = list(
        write_pictures(
            source, proposals, out, cleaner=cleaner, num_examples=settings.pictures, benchmarks=found.benchmarks
        )
    )
    beside = f"; pictures beside it: {', '.join(picture.name for picture in pictures)}" if pictures else ""
    print(f"proposals    {out / PROPOSALS_FILE}{beside}")
    same = [given for given in overrides if given.startswith(("data.", "input.", "out="))]
    num_images = len({one.image for one in proposals if one.image is not None})
    if num_images > MUCH * len(labels):
        print(f"note         {num_images / len(labels):.0%} of the images; if that is wrong, use a better model")
    print("next         look at the pictures, edit proposals.csv (delete lines, change actions), then")
    print(f"             {command('clean', *same, 'apply=true')}")


def _write(out: Path, proposals: Sequence[Proposal], source: Source) -> None:
    """Writes proposals, and which set they belong to; never leaves proposals of one search with another's set."""
    path, new = out / PROPOSALS_FILE, out / f"{PROPOSALS_FILE}.new"
    write_proposals(new, proposals)
    about = {"set": source.fingerprint(), "proposals": file_hash(new)}
    path.unlink(missing_ok=True)
    with atomic_file(out / ABOUT_FILE) as file:
        file.write(json.dumps(about).encode())
    new.rename(path)


def _apply(source: AnySource, out: Path, settings: CleanSettings) -> None:
    proposals = read_proposals(out / PROPOSALS_FILE)
    if _about(out).get("set") != source.fingerprint():
        raise DataError(
            f"{out / PROPOSALS_FILE} was not written for this set: it is another set, or images were added, deleted or "
            "changed since. Its numbers would mean other images: run clean again, with another out"
        )
    samples, labels, names = applied(proposals, source.labels, source.identities)
    if not len(samples):
        raise DataError(f"{out / PROPOSALS_FILE} would remove every image; nothing was written")
    cleaned = RelabelledSource(source=source, labels=labels, identities=names)
    num_threads = settings.num_threads or num_cores()
    pack_training_set(cleaned, out / CLEANED_FOLDER, samples=samples, num_threads=num_threads)
    before, after = len(np.unique(source.labels)), len(np.unique(labels[samples]))
    print(f"cleaned set  {out / CLEANED_FOLDER}: {len(samples):,} of {len(source):,} images, ", end="")
    print(f"{after:,} identities ({before:,} before)")
    benchmarks = source.benchmarks()  # they are not copied
    sets = [override_of("eval.sets", benchmarks)] if benchmarks else []
    root = [override_of("data.root", out / CLEANED_FOLDER), *size_overrides(source.size_px).split()]
    print(f"next         {command('train', 'data=on_disk', *root, *sets)}")


def _about(out: Path) -> dict[str, str]:
    """Returns the set of a folder's proposals, and their hash when they were written; empty if there are none."""
    try:
        return dict(json.loads((out / ABOUT_FILE).read_text()))
    except (OSError, ValueError):
        return {}


def _check_not_edited(out: Path) -> None:
    path = out / PROPOSALS_FILE
    if path.exists() and _about(out).get("proposals") != file_hash(path):
        raise ConfigError(
            f"{path} has been edited; another search would replace it. Apply it first (apply=true), rename it, or "
            "choose another out"
        )


def _benchmark(path: str, size_px: tuple[int, int]) -> Images:
    """Opens the images of a verification file, or of a set, which must have this height and width."""
    location = Path(path).expanduser()
    if not location.exists():
        raise ConfigError(f"against: {location} does not exist; expected a .bin file, or a set")
    if location.suffix == ".bin":
        return PairImages(read_pairs(location), size_px=size_px)
    return open_source(path, height_px=size_px[0], width_px=size_px[1])


def _tell(proposals: Sequence[Proposal]) -> None:
    counts = Counter(one.kind for one in proposals)
    # A second person with forty images is forty lines, but one case to look at.
    identities = Counter(kind for kind, _ in {(one.kind, one.identity) for one in proposals if one.image is not None})
    for kind, meaning in KINDS.items():
        if counts[kind] or kind != "unreadable":
            number = identities[kind]
            of_identities = f", of {number:,} {'identity' if number == 1 else 'identities'}" if number else ""
            print(f"{kind:<12} {counts[kind]:,} {meaning}{of_identities}")
