"""`facerec inspect`: checks all images of a data set, prints facts and faults, and draws pictures of it."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.arguments import check_keys
from facerec.cli.verbs.set_verbs import (
    check_not_inside,
    input_settings,
    made_folder,
    read_settings,
    refuse_unread,
    size_overrides,
)
from facerec.core.crop_size import size_keys
from facerec.core.errors import ConfigError
from facerec.core.litter import is_litter
from facerec.core.threads import num_cores
from facerec.core.typed_text import override_of
from facerec.inspection.findings import Findings
from facerec.inspection.report import describe, is_report, sheet_rows, write_report
from facerec.inspection.whole_set import inspect_set

FAULTS_FILE, NOTES_FILE = "faults.csv", "notes.csv"
FAULTS_FOUND = 1
BAR_WIDTH = 40
MOST = 0.9
"""From this share of the images on, their size is taken for that of the set."""


@dataclass(frozen=True, kw_only=True)
class InspectSettings:
    """The keys of inspect.yaml that are not sections."""

    out: str | None
    num_folds: int
    num_threads: int | None


@dataclass(frozen=True, kw_only=True)
class SheetSettings:
    """The section `sheet`."""

    num_identities: int
    images_per_identity: int
    seed: int


def run(config: DictConfig, overrides: list[str]) -> int:
    """Inspects, prints and writes. Returns the exit code: 1 if there are faults."""
    settings, sheet = _settings(config, overrides)
    root = str(config.data.root)
    out = None if settings.out is None else Path(settings.out).expanduser()
    if out is not None:
        _check_place(out, Path(root).expanduser())
    faults, notes = Findings(), Findings()
    with ExitStack() as written:
        if out is not None:
            written.enter_context(made_folder(out))
        written.enter_context(faults.written_to(out and out / FAULTS_FILE))
        written.enter_context(notes.written_to(out and out / NOTES_FILE))
        inspection = inspect_set(
            root,
            faults,
            notes,
            num_threads=settings.num_threads or num_cores(),
            num_folds=settings.num_folds,
            **vars(input_settings(config)),
        )
    about = describe(root, inspection, faults, notes)
    _tell(about, faults, notes, root=root)
    if out is not None:
        rows = sheet_rows(inspection, **vars(sheet))
        description, *pictures = write_report(out, about, rows)
        files = [description, FAULTS_FILE, NOTES_FILE, *pictures]
        print(f"written      {out}: {', '.join(files)}")
    if not len(faults) and "num_identities" in about:
        print(f"next         {_next_command(root, size_px=tuple(about['size_px']))}")
    return FAULTS_FOUND if len(faults) else 0


def _settings(config: DictConfig, overrides: Sequence[str]) -> tuple[InspectSettings, SheetSettings]:
    check_keys(config, {"data", "input", "sheet", *InspectSettings.__dataclass_fields__})
    check_keys(config.data, {"root"}, section="data")
    values: Any = OmegaConf.to_container(config)
    if not isinstance(values["data"]["root"], str):
        raise ConfigError(f"data.root={values['data']['root']}; expected the path of one set")
    settings = read_settings(InspectSettings, values, lowest={"num_folds": 2, "num_threads": 1})
    lowest = {"num_identities": 1, "images_per_identity": 1, "seed": 0}
    sheet = read_settings(SheetSettings, values["sheet"], section="sheet", lowest=lowest)
    if settings.out is None:
        refuse_unread(overrides, ["sheet"], why="the contact sheet needs out=<a folder>")
    return settings, sheet


def _check_place(out: Path, root: Path) -> None:
    """Refuses a folder for the report unless it is new, holds an earlier report, or a train.rec."""
    check_not_inside(out, root)
    has_files = out.is_dir() and not all(is_litter(path.name) for path in out.iterdir())
    if has_files and out.resolve() != root.resolve() and not is_report(out):
        raise ConfigError(f"out={out} has files that facerec inspect did not write; give a new or an empty folder")


def _next_command(root: str, *, size_px: tuple[int, int]) -> str:
    """Returns the command that packs a set without faults, or trains on it if it is packed."""
    path, given = Path(root).expanduser(), [override_of("data.root", root), *size_overrides(size_px).split()]
    if (path / "train.rec").exists():
        return command("train", "data=on_disk", *given)
    out = override_of("out", str(path.with_name(f"{path.stem if path.is_file() else path.name}_packed")))
    return command("pack", *given, "split.val_identities=0.2", "pairs=auto", out)


def _tell(about: dict[str, Any], faults: Findings, notes: Findings, *, root: str) -> None:
    height_px, width_px = about["size_px"]
    print(f"set          {root}: {about['kind']}")
    whole = f"{about['num_images']} of {height_px} x {width_px} pixels"
    if "num_identities" in about:
        whole += f", of {about['num_identities']} identities"
    else:
        whole += f", in {about['num_positive']} positive and {about['num_negative']} negative pairs"
    print(f"images       {whole}")
    if unusable := about["num_images"] - about["num_usable"]:
        print(f"             {unusable} of them cannot be used")
    if grey := about["num_greyscale"]:
        print(f"greyscale    {grey} images")
    if passed_over := about["notes"].get("passed over"):
        first = next(note for note in notes.first if note.kind == "passed over")
        print(f"passed over  {passed_over} files and folders were not read, such as {first}")
    if similar := about["notes"].get("similar name"):
        first = next(note for note in notes.first if note.kind == "similar name")
        print(f"names        {similar} are almost equal to others, such as {first.record}: {first.what}")
    if repeated := about["notes"].get("repeated pair"):
        print(f"repeated     {repeated} pairs are equal to an earlier pair")
    if per := about.get("images_per_identity"):
        print(f"per identity {per['min']} to {per['max']} images, mean {per['mean']:.1f}, median {per['median']:g}")
        print(_bars(per["histogram"]))
    print(f"fingerprint  {about['fingerprint'] or 'none: training refuses this set'}")
    print(f"  of images  {about['fingerprint_of_images']}")
    kinds = ", ".join(f"{number} {kind}" for kind, number in faults.counts.most_common())
    print(f"faults       {len(faults)}{kinds and f': {kinds}'}")
    for finding in faults.first:
        print(f"  {finding}")
    if len(faults) > len(faults.first):
        print(f"  ... and {len(faults) - len(faults.first)} more, in {FAULTS_FILE} with out=<a folder>")
    if faults.counts["missing label"]:
        print("next         pack the same images with renumbered identities:")
        out = override_of("out", f"{root.rstrip('/')}_packed")
        print(f"             {command('pack', override_of('data.root', root), out)}")
    if faults.counts["fold of one kind"] and about["num_positive"] and about["num_negative"]:
        print("next         distribute the same pairs so that each fold has both kinds:")
        path = Path(root)
        out = override_of("out", str(path.with_name(f"{path.stem}_dealt.bin")))
        print(f"             {command('pack', override_of('data.root', root), out)}")
    _tell_size(about, root=root)


def _tell_size(about: dict[str, Any], *, root: str) -> None:
    """Returns the next command if most images have another size, or all have the right size but not 112 x 112."""
    most = MOST * about["num_images"]
    if about["faults"].get("size", 0) <= most:
        if keys := size_overrides(tuple(about["size_px"])):
            print(f"note         facerec train takes crops of this size with{keys}")
        return
    height_px, width_px, number = about["other_sizes_px"][0]
    if number > most:
        print(f"next         if these are aligned crops, of {height_px} x {width_px} pixels:")
        size = size_keys((height_px, width_px)).split()
        print(f"             {command('inspect', override_of('data.root', root), *size)}")
    if "num_identities" in about:
        print("next         if these are photos that are not aligned yet, with a YuNet or SCRFD in place of")
        print("             DETECTOR.onnx:")
        photos, out = override_of("photos", root), override_of("out", f"{root.rstrip('/')}_crops")
        print(f"             {command('align', photos, 'detector.weights=DETECTOR.onnx', out)}")


def _bars(bins: Sequence[tuple[int, int, int]]) -> str:
    """Returns the histogram as text: images per identity, number of identities."""
    names = [str(fewest) if fewest == most else f"{fewest}-{most}" for fewest, most, _ in bins]
    largest = max(number for *_, number in bins)
    width, digits = max(map(len, names)), len(str(largest))
    return "\n".join(
        f"  {name:>{width}}: {number:>{digits}} {'#' * -(-BAR_WIDTH * number // largest)}".rstrip()
        for name, (*_, number) in zip(names, bins, strict=True)
    )
