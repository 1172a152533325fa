"""Reads lists of pairs, LFW's pairs.txt and CSV files, and finds the samples that they name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from facerec.core.csv_lines import TABLE_SUFFIXES, csv_lines
from facerec.core.errors import DataError
from facerec.core.text_files import open_text
from facerec.data.sources import FolderSource, ListSource

COLUMNS = ("path1", "path2", "is_same")
_MOST_NAMED = 10
_TRUTHS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, kw_only=True)
class ListedPair:
    """Two images by name.

    Attributes:
        first, second: paths relative to the set's folder; without a suffix in LFW's list.
        is_same: True if they show one person.
    """

    first: str
    second: str
    is_same: bool


def read_pair_list(path: Path) -> list[ListedPair]:
    """Reads a table with the columns path1, path2, is_same (1, 0, true, false), or a list as LFW's `pairs.txt`.

    A name that ends with .csv or .tsv is a table; see `csv_lines`.

    In LFW's list, a line of three fields is a positive pair (name, number, number), and one of four a negative pair
    (name, number, name, number); image 7 of a name is `name/name_0007`. Lines of one or two numbers, the header, are
    skipped.

    Raises:
        DataError: the file is missing, or a line does not fit; names the line.
    """
    pairs = _from_csv(path) if path.suffix.lower() in TABLE_SUFFIXES else _from_lfw(path)
    if not pairs:
        raise DataError(f"{path}: it has no pairs")
    return pairs


def find_pairs(listed: Sequence[ListedPair], source: FolderSource | ListSource, *, path: Path) -> np.ndarray:
    """Returns the samples of a set that the pairs of a list name, with or without suffix: int64 (P, 2).

    Args:
        listed: the pairs.
        source: the set.
        path: the file of the list, for messages.

    Raises:
        DataError: a name fits no sample, or fits two.
    """
    wanted = {name for pair in listed for name in (pair.first, pair.second)}
    by_name: dict[str, list[int]] = {}
    by_stem: dict[str, list[int]] = {}
    for index in range(len(source)):
        relative = PurePath(source.relative_path(index))
        for named, known in ((relative, by_name), (relative.with_suffix(""), by_stem)):
            if (name := named.as_posix()) in wanted:
                known.setdefault(name, []).append(index)
    candidates = by_stem | by_name  # a full name is that of one file, whatever other files are called
    for name, indices in candidates.items():
        if len(indices) > 1:
            first, second = (source.relative_path(index) for index in indices[:2])
            if first == second:
                raise DataError(f"{path}: {name} has two lines in {source.root}; expected one, as it may be either")
            mend = "rename one of them, or give a CSV (path1, path2, is_same) with the suffixes"
            raise DataError(f"{path}: {name} may be {first} or {second}; {mend}")
    if missing := sorted(wanted - candidates.keys()):
        raise DataError(
            f"{path}: {len(missing)} of its {len(wanted)} images are not in {source.root}: "
            f"{', '.join(missing[:_MOST_NAMED])}{', ...' if len(missing) > _MOST_NAMED else ''}"
        )
    return np.array([[candidates[pair.first][0], candidates[pair.second][0]] for pair in listed], dtype=np.int64)


def _from_csv(path: Path) -> list[ListedPair]:
    pairs = []
    for line, cells in csv_lines(path, columns=COLUMNS):
        first, second, truth = (cells[column].strip() for column in COLUMNS)
        if not first or not second or truth.lower() not in _TRUTHS:
            raise DataError(
                f"{path}, line {line}: expected two paths and 1 or 0, found {first!r}, {second!r}, {truth!r}"
            )
        pairs.append(ListedPair(first=first, second=second, is_same=_TRUTHS[truth.lower()]))
    return pairs


def _from_lfw(path: Path) -> list[ListedPair]:
    pairs = []
    with open_text(path) as text:
        lines = text.read().splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) <= 2 and all(field.strip().isdigit() for field in fields):
            continue
        try:
            if len(fields) == 3:
                name, first, second = fields
                pairs.append(ListedPair(first=_lfw(name, first), second=_lfw(name, second), is_same=True))
            else:
                name, first, other, second = fields
                pairs.append(ListedPair(first=_lfw(name, first), second=_lfw(other, second), is_same=False))
        except ValueError:
            raise DataError(
                f"{path}, line {number}: expected name, number, number, or name, number, name, number; found {line!r}"
            ) from None
    return pairs


def _lfw(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"
