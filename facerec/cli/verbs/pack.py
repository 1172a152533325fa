"""`facerec pack`: packs face crops into a training set, and pairs of them into a verification set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import check_keys
from facerec.cli.verbs.set_verbs import (
    check_model_size,
    check_not_inside,
    made_folder,
    open_set,
    read_settings,
    refuse_unread,
    size_overrides,
)
from facerec.core.errors import ConfigError, DataError
from facerec.core.source import Source
from facerec.core.threads import num_cores
from facerec.core.typed_text import override_of
from facerec.data.packing import (
    VAL_FILE,
    deal_pairs,
    pack_pairs,
    pack_training_set,
    readable_samples,
    write_rejected,
)
from facerec.data.pair_choice import choose_identities, choose_pairs
from facerec.data.pair_folds import fold_trouble, order_for_folds
from facerec.data.pair_lists import find_pairs, read_pair_list
from facerec.data.sources import AnySource, RecordSource, Subset
from facerec.data.sources.joined_source import JoinedSource
from facerec.embedding.nearest import nearest_others

REJECTED_FILE = "rejected.csv"
BATCH_SIZE = 128
MOST_NAMED = 2


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """The keys of pack.yaml that are not sections."""

    out: str
    pairs: str | None
    seed: int
    layout: str
    on_corrupt: str
    num_threads: int | None


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """The section `split`."""

    val_identities: float | None


@dataclass(frozen=True, kw_only=True)
class AutoPairs:
    """The section `auto_pairs`."""

    num_positive: int | None
    num_negative: int | None
    hard_negatives: str | None
    device: str
    trust: str | list[str] | None


def run(config: DictConfig, overrides: list[str]) -> int:
    """Packs, and prints the results and their places. Returns the exit code."""
    settings, split, auto = _settings(config, overrides)
    if _is_pair_file(config.data.root):
        return _deal_anew(Path(str(config.data.root)).expanduser(), Path(settings.out).expanduser(), overrides)
    source = open_set(config, renumber=True)
    out = Path(settings.out).expanduser()
    num_threads = settings.num_threads or num_cores()
    if settings.pairs not in (None, "auto"):
        pairs, is_same = _listed_pairs(source, Path(str(settings.pairs)).expanduser(), out)
        with made_folder(out.parent):
            pack_pairs(source, out, pairs=pairs, is_same=is_same, num_threads=num_threads)
        _tell_pairs(out, is_same, of=_num_identities(source.labels[pairs]))
        size = size_overrides(source.size_px).split()
        print(f"next         {command('inspect', override_of('data.root', out), *size)}")
        return 0
    check_not_inside(out, config.data.root)
    for path in (out / "train.rec", out / VAL_FILE):  # before long work
        if path.exists() and (path.name != VAL_FILE or split.val_identities is not None):
            raise DataError(f"{path} already exists; delete it, or write to another folder")
    with made_folder(out):
        samples, rejected = _pack_set(source, out, settings, split, auto)
    num_identities = len(np.unique(source.labels[samples]))
    print(f"training set {out}: {len(samples)} images of {num_identities} identities")
    if rejected:
        _tell_rejected(rejected, out / REJECTED_FILE)
    root = [override_of("data.root", out), *size_overrides(source.size_px).split()]
    print(f"next         {command('train', 'data=on_disk', *root)}")
    return 0


def _pack_set(
    source: AnySource, out: Path, settings: PackSettings, split: SplitSettings, auto: AutoPairs
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Writes the training set and its pairs. Returns its samples, int64 (n,), and those left out, with reasons."""
    num_threads = settings.num_threads or num_cores()
    samples, val_pairs = np.arange(len(source)), None
    rejected: list[tuple[str, str]] = []
    if settings.on_corrupt == "skip":
        samples, rejected = readable_samples(source, num_threads=num_threads)
    if rejected:
        write_rejected(out / REJECTED_FILE, rejected)
    if split.val_identities is not None:
        labels = source.labels[samples]
        is_val = np.isin(labels, choose_identities(labels, split.val_identities, seed=settings.seed))
        samples, val = samples[~is_val], samples[is_val]
        val_pairs = _drawn_pairs(source, val, auto, seed=settings.seed)
    pack_training_set(
        source, out, samples=samples, num_threads=num_threads, layout=settings.layout, val_pairs=val_pairs
    )
    if val_pairs is not None:
        _tell_pairs(out / VAL_FILE, val_pairs[1], of=_num_identities(source.labels[val_pairs[0]]))
    return samples, rejected


def _settings(config: DictConfig, overrides: Sequence[str]) -> tuple[PackSettings, SplitSettings, AutoPairs]:
    check_keys(config, {"data", "input", "split", "auto_pairs", *PackSettings.__dataclass_fields__})
    check_keys(config.data, {"root", "merge"}, section="data")
    values: Any = OmegaConf.to_container(config)
    settings = read_settings(PackSettings, values, lowest={"seed": 0, "num_threads": 1})
    split = read_settings(SplitSettings, values["split"], section="split")
    lowest = {"num_positive": 1, "num_negative": 1}
    auto = read_settings(AutoPairs, values["auto_pairs"], section="auto_pairs", lowest=lowest)
    if settings.on_corrupt not in ("error", "skip"):
        raise ConfigError(f"on_corrupt={settings.on_corrupt}; expected error or skip")
    if settings.layout not in ("insightface", "im2rec"):
        raise ConfigError(f"layout={settings.layout}; expected insightface or im2rec")
    if (settings.pairs == "auto") != (split.val_identities is not None):
        raise ConfigError(
            "pairs=auto and split.val_identities=... go together: pairs of people in the training set measure nothing. "
            "Give both, or neither"
        )
    if settings.pairs is None:
        refuse_unread(overrides, ["seed", "auto_pairs"], why="only pairs=auto draws pairs")
    elif settings.pairs != "auto":
        unread = ["seed", "auto_pairs", "layout", "on_corrupt"]
        refuse_unread(overrides, unread, why=f"pairs={settings.pairs} writes only these pairs, and no training set")
    elif auto.hard_negatives is None:
        refuse_unread(
            overrides, ["auto_pairs.device", "auto_pairs.trust"], why="only auto_pairs.hard_negatives uses a model"
        )
    return settings, split, auto


def _drawn_pairs(source: Source, samples: np.ndarray, auto: AutoPairs, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs of the identities that were set aside."""
    labels = source.labels[samples]
    nearest = None if auto.hard_negatives is None else _nearest(source, samples, auto)
    try:
        pairs, is_same = choose_pairs(
            labels,
            num_positive=auto.num_positive,
            num_negative=auto.num_negative,
            seed=seed,
            nearest_others=nearest,
        )
    except ConfigError as error:
        raise ConfigError(f"auto_pairs.{error}; split.val_identities says how many are set aside") from None
    return samples[pairs], is_same


def _nearest(source: Source, samples: np.ndarray, auto: AutoPairs) -> np.ndarray:
    """Returns for each of some samples the nearest one of another identity, by a model; numbers count among them."""
    from facerec.embedding.loop import Loop, embed_for_now  # imports torch, for seconds, which other packs save
    from facerec.embedding.model import open_model

    model = open_model(str(auto.hard_negatives), device=auto.device, batch_size=BATCH_SIZE, trust=auto.trust)
    check_model_size(model.input_spec.size_px, source.size_px, key="auto_pairs.hard_negatives")
    loop = Loop(batch_size=BATCH_SIZE, unit_length=True, stops_at_unreadable=True)
    embedded = embed_for_now(Subset(source=source, indices=samples), model, loop)
    return nearest_others(embedded.emb_ND, source.labels[samples], what="comparing faces")[1]


def _listed_pairs(source: AnySource, path: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of a list in its order, or in another one if only that gives each of ten folds both kinds."""
    _check_pair_file(out, f"pairs={path} makes a verification set")
    if isinstance(source, JoinedSource):
        raise ConfigError(f"pairs={path} names the files of one set; data.root has {len(source.parts)}")
    if isinstance(source, RecordSource):
        raise ConfigError(f"pairs={path} names files, but data.root={source.root} is a packed set, which has none")
    listed = read_pair_list(path)
    pairs, is_same = find_pairs(listed, source, path=path), np.array([pair.is_same for pair in listed])
    order = order_for_folds(is_same)
    if order is None:
        return pairs, is_same
    print(
        "note         in the list's order, one of ten folds would have pairs of one kind only; the pairs were "
        "distributed again, so that each fold has both kinds"
    )
    return pairs[order], is_same[order]


def _is_pair_file(root: Any) -> bool:
    return isinstance(root, str) and root.lower().endswith(".bin") and not Path(root).expanduser().is_dir()


def _deal_anew(path: Path, out: Path, overrides: Sequence[str]) -> int:
    """Writes a verification file's pairs in an order in which each fold has both kinds. Returns the exit code."""
    unread = [key for key in PackSettings.__dataclass_fields__ if key != "out"]
    why = f"data.root={path} is a verification file; its pairs are written in another order"
    refuse_unread(overrides, ["split", "auto_pairs", "input", *unread], why=why)
    _check_pair_file(out, why)
    with made_folder(out.parent):
        is_same = deal_pairs(path, out)
    _tell_pairs(out, is_same, of="in an order in which each part has both kinds")
    return 0


def _check_pair_file(out: Path, why: str) -> None:
    if out.suffix != ".bin":
        raise ConfigError(f"out={out}: {why}; give it a name such as lfw.bin")


def _tell_pairs(path: Path, is_same: np.ndarray, *, of: str) -> None:
    kinds = f"{is_same.sum()} positive, {(~is_same).sum()} negative"
    print(f"pairs        {path}: {kinds}, {of}")
    if num_negative := int((~is_same).sum()):
        print(
            f"             they resolve a FAR no lower than 1/{num_negative} = {1 / num_negative:.1e}; "
            "auto_pairs.num_negative=... of pairs=auto draws more"
        )
    if trouble := fold_trouble(is_same):
        print(f"note         {trouble}")


def _num_identities(labels: np.ndarray) -> str:
    return f"of {len(np.unique(labels))} identities"


def _tell_rejected(rejected: Sequence[tuple[str, str]], path: Path) -> None:
    for _, reason in rejected[:MOST_NAMED]:
        print(f"left out     {reason}")
    print(f"left out     {len(rejected)} in total, listed in {path}")
