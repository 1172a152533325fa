"""Finds names of identities that a person would read as one: they differ only in case, Unicode form or spaces."""

import unicodedata

import numpy as np

from facerec.inspection.findings import Findings
from facerec.inspection.survey import NO_LABEL, Items, Survey


def note_similar_names(items: Items, found: Survey, notes: Findings) -> None:
    """Adds each identity whose name differs from an earlier one only in case, Unicode form or spaces."""
    labels, firsts = np.unique(found.labels_N, return_index=True)
    first_with: dict[str, str] = {}
    for label, first in zip(labels.tolist(), firsts.tolist(), strict=True):
        if label == NO_LABEL:
            continue
        name = items.identity(label)
        other = first_with.setdefault(_read_as(name), name)
        if other != name:
            difference = _difference(name, other)
            shown = ascii if difference == "Unicode form" else repr  # they look the same on a screen
            what = f"its name differs from {shown(other)} only in {difference}; are they one person?"
            notes.add("similar name", items.place(first)[0], f"identity {shown(name)}", what)


def _read_as(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _difference(name: str, other: str) -> str:
    names = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", other)
    if names[0] == names[1]:
        return "Unicode form"
    stripped = [" ".join(one.split()) for one in names]
    if stripped[0] == stripped[1]:
        return "spaces"
    return "case" if names[0].casefold() == names[1].casefold() else "case and spaces"
