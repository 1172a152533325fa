"""The lines that `facerec align` prints at its end."""

from collections.abc import Sequence
from pathlib import Path

from facerec.align.alignment import AlignmentCounts
from facerec.align.crop_writer import NEEDS_PACKAGE
from facerec.align.crops_folder import DOUBTFUL_FILE, LANDMARKS_FILE, REPORT_FILE, SEVERAL_FILE
from facerec.align.photo_reader import HEIF_SUFFIXES, HOW_TO_READ_HEIF
from facerec.align.wanted_faces import EMPTY_FOLDER, WantedFaces
from facerec.cli.commands import command
from facerec.core.typed_text import override_of

NUM_NAMED = 3
"""How many empty folders are named."""


def print_summary(
    *,
    out: Path,
    photos: Path | None,
    wanted: WantedFaces,
    counts: AlignmentCounts,
    rule: str,
    has_model: bool,
    inspect_overrides: Sequence[str],
    is_refused: bool,
) -> None:
    """Prints what was aligned, what is odd or rejected and where it is listed, and the next command.

    Args:
        out: the folder of the crops.
        photos: the folder of the photos, or one photo; None with a list.
        wanted: the faces that were asked for.
        counts: the results.
        rule: the key that chooses one of several faces, with its value.
        has_model: True if a model has compared the faces of a person.
        inspect_overrides: what `facerec inspect` needs besides the folder.
        is_refused: True if an error follows, which gives the reason, so that no next command is printed.
    """
    before = f", {counts.num_done_before} of them before" if counts.num_done_before else ""
    print(f"aligned      {counts.num_aligned} of {counts.num_wanted} faces{before}, in {out}")
    lost = f", and {counts.num_lost_identities} without any crop" if counts.num_lost_identities else ""
    print(f"identities   {f'{counts.num_identities}{lost}' if wanted.has_identities else 'none'}")
    turned = f"; {counts.num_turned} in rotated photos (turned_deg)" if counts.num_turned else ""
    print(f"landmarks    {out / LANDMARKS_FILE}{turned}")
    if counts.num_with_several:
        print(f"several      {_several(counts, rule=rule, has_model=has_model)}; listed in {out / SEVERAL_FILE}")
    if counts.num_doubtful:
        number = f"{counts.num_doubtful} {'crop looks' if counts.num_doubtful == 1 else 'crops look'}"
        print(f"doubtful     {number} unlike the other crops of the person; listed in {out / DOUBTFUL_FILE}")
    if rejected := _rejected(wanted, counts):
        print(f"rejected     {rejected}; listed in {out / REPORT_FILE}")
    if is_refused:
        return
    if note := _note(wanted, counts, photos=photos):
        print(f"note         {note}")
    if counts.num_aligned and wanted.has_identities:
        overrides = [override_of("data.root", out), *inspect_overrides, override_of("out", f"{out}_report")]
        print(f"next         {command('inspect', *overrides)}")


def _several(counts: AlignmentCounts, *, rule: str, has_model: bool) -> str:
    large = f"in {counts.num_about_as_large} another face has half the area or more"
    text = f"photos with several faces ({counts.num_with_several}; {large}): {rule} took one of each"
    if has_model:
        text += f"; the model compared {counts.num_compared} and took another face in {counts.num_other_face}"
    return text


def _rejected(wanted: WantedFaces, counts: AlignmentCounts) -> str:
    parts = [f"{number} {reason}" for reason, number in counts.num_rejected.items() if reason != EMPTY_FOLDER]
    if empty := [path for path, reason, _ in wanted.left_out if reason == EMPTY_FOLDER]:
        names = ", ".join(map(repr, empty[:NUM_NAMED])) + (", ..." if len(empty) > NUM_NAMED else "")
        parts.append(f"{len(empty)} {'folder' if len(empty) == 1 else 'folders'} without a photo ({names})")
    return ", ".join(parts)


def _note(wanted: WantedFaces, counts: AlignmentCounts, *, photos: Path | None) -> str:
    """Returns the notes, one sentence each."""
    notes = [note for note in (counts.likely_cause, counts.landmarks_note) if note]
    if number := counts.num_rejected.get(NEEDS_PACKAGE):
        notes.append(f"{number} HEIC photos ({', '.join(HEIF_SUFFIXES)}): {HOW_TO_READ_HEIF}; repeat the command")
    if counts.num_aligned and not wanted.has_identities:
        notes.append(
            "crops without identities are for embeddings (facerec.load in Python); training needs photos in a folder "
            "for each person, or identities=<a table with path,identity>"
        )
    elif counts.num_aligned and counts.num_identities == 1 and photos is not None:
        notes.append(f"one identity: each folder in {photos} is one; are the identities deeper?")
    return ". ".join(notes)
