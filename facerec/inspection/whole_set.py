"""Inspects a set of any kind: a packed one, folders, a table, or a verification set."""

from dataclasses import dataclass
from pathlib import Path

from facerec.core.crop_size import asked_size
from facerec.core.errors import DataError
from facerec.core.file_hash import file_hash
from facerec.data.sources import AnySource, RecordSource, open_source
from facerec.data.sources.folder_source import FolderSource
from facerec.data.sources.list_source import ListSource
from facerec.inspection.files import FileItems, folder_items, table_items
from facerec.inspection.findings import Findings
from facerec.inspection.names import note_similar_names
from facerec.inspection.records import RecordItems
from facerec.inspection.survey import Items, Survey, find_duplicates, find_empty_identities, note_grey, survey
from facerec.inspection.verification_set import PairItems


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result of an inspection.

    Attributes:
        items: the set; a `PairItems` for a verification set.
        found: the results of the pass.
        fingerprint: fingerprint of the source, as in a run directory; for a verification set, that of the file. None if
            training refuses the set.
    """

    items: Items
    found: Survey
    fingerprint: str | None


def inspect_set(
    root: str,
    faults: Findings,
    notes: Findings,
    *,
    num_threads: int,
    num_folds: int = 10,
    height_px: int | None = None,
    width_px: int | None = None,
) -> Inspection:
    """Reads all of a set once. Faults do not end it.

    Args:
        root: see `open_source`, or a `.bin`.
        faults: the faults are added to this.
        notes: findings that are not faults are added to this.
        num_threads: number of threads that read and decode.
        num_folds: number of folds of a `.bin`.
        height_px, width_px: size that the crops must have, see `open_source`; None for a `.bin`: that of image 0.

    Raises:
        DataError: there is no set, or it cannot be opened at all.
    """
    path = Path(root).expanduser()
    if path.suffix.lower() == ".bin" and not path.is_dir():
        pairs = PairItems(path=path, faults=faults, size_px=asked_size(height_px, width_px))
        found = survey(pairs, faults, num_threads=num_threads)
        pairs.check_pairs(found, faults, notes, num_folds=num_folds)
        note_grey(pairs, found, notes)
        return Inspection(items=pairs, found=found, fingerprint=file_hash(path))
    source = open_source(root, height_px=height_px, width_px=width_px)
    items = _items(source, faults, notes)
    found = survey(items, faults, num_threads=num_threads)
    if isinstance(items, FileItems):
        items.check_landmarks(path, faults)
    find_duplicates(items, found, faults)
    find_empty_identities(items, found, faults)
    note_similar_names(items, found, notes)
    note_grey(items, found, notes)
    try:
        fingerprint = source.fingerprint()
    except DataError:
        fingerprint = None
    return Inspection(items=items, found=found, fingerprint=fingerprint)


def _items(source: AnySource, faults: Findings, notes: Findings) -> Items:
    if isinstance(source, RecordSource):
        return RecordItems(root=source.root, faults=faults, size_px=source.asked_size_px)
    if isinstance(source, ListSource):
        return table_items(source.root, faults, size_px=source.size_px)
    assert isinstance(source, FolderSource)  # one path never gives several sets
    return folder_items(source.root, faults, notes, size_px=source.size_px)
