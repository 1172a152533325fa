"""Aligns the wanted faces of photos into a folder of crops, in several threads, resumable, with a report."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facerec.align.align_reports import LEFT_OVER, write_landmarks, write_report
from facerec.align.candidate_faces import CandidateFaces, FaceJudge, Judgement
from facerec.align.crop_writer import FORMATS, NEEDS_PACKAGE, CropSettings, CropWriter, stamp
from facerec.align.crops_folder import (
    DOUBTFUL_FILE,
    JOURNAL_FILE,
    JOURNAL_PARTS,
    JUDGE_FOLDER,
    LANDMARKS_FILE,
    REPORT_FILE,
    SEVERAL_FILE,
    own_folder,
    write_summary,
)
from facerec.align.faces import Detector
from facerec.align.journal import Entry, Journal
from facerec.align.landmark_causes import FacesOfAList, common_cause, corner_note
from facerec.align.several_faces import write_doubtful, write_several
from facerec.align.wanted_faces import WantedFaces, crop_names
from facerec.core.errors import ConfigError
from facerec.core.progress_bar import progress_bar
from facerec.core.string_table import StringTable
from facerec.core.threads import in_threads
from facerec.processes.agreement import failing_together

if TYPE_CHECKING:
    from facerec.processes.group import Processes


@dataclass(frozen=True, kw_only=True)
class AlignmentCounts:
    """The counts of an alignment.

    Attributes:
        num_wanted, num_aligned: number of faces.
        num_done_before: number of wanted faces that an earlier run of the same command has done.
        num_identities: number with at least one crop; 0 if the photos have no identities.
        num_lost_identities: number without any crop.
        num_with_several: number of aligned faces in photos in which the detector finds several faces.
        num_about_as_large: number of these with another face of at least half the area.
        num_compared: number of these whose faces a model compared with the identity's photos with one face.
        num_other_face: number of these in which the model took another face than the rule.
        num_doubtful: number of crops that look unlike the other crops of their identity, by the model.
        num_turned: number of aligned faces in photos that are rotated by 90, 180 or 270 degrees.
        num_rejected: counts by reason, including photos that were left out from the start.
        likely_cause: what the rejected landmarks of a list have in common, or None; see `common_cause`.
        landmarks_note: what is unusual about all landmarks of a list, or None; see `corner_note`.
    """

    num_wanted: int
    num_aligned: int
    num_done_before: int
    num_identities: int
    num_lost_identities: int
    num_with_several: int
    num_turned: int
    num_rejected: Mapping[str, int]
    likely_cause: str | None = None
    landmarks_note: str | None = None
    num_about_as_large: int = 0
    num_compared: int = 0
    num_other_face: int = 0
    num_doubtful: int = 0


def align_photos(
    wanted: WantedFaces,
    *,
    out: Path,
    detector: Detector | None = None,
    crops: CropSettings | None = None,
    described: Mapping[str, Any] | None = None,
    num_threads: int = 1,
    batch_size: int = 8,
    on_progress: Callable[[int], None] = lambda num_faces: None,
    processes: "Processes | None" = None,
    judge: FaceJudge | None = None,
) -> AlignmentCounts:
    """Writes a crop for each wanted face, and tables: `landmarks.csv` of their photos, `report.csv` of the rejected
    ones, `several_faces.csv` of photos with several faces; with a judge, `doubtful.csv` of crops that do not fit.

    When started again with the same arguments, it does only what is missing: new photos, changed photos, and deleted
    crops. The output depends neither on interruptions, nor on `num_threads`, nor on the processes.

    Args:
        wanted: the faces. Faces without landmarks need the detector.
        out: the folder; new, empty, or of an earlier run with the same arguments.
        detector: finds the faces if `wanted` has no landmarks: any callable, see `Detector`.
        crops: settings of the crops; None: the largest face, 112 x 112, JPEG of quality 95.
        described: everything else that the result depends on, in plain values (hashes of files, the detector's
            arguments); a later run into `out` must give the same.
        num_threads: number of threads that read, detect, warp and write.
        batch_size: number of photos in one call of the detector. The journal is written after each batch; a killed
            process loses the last batches of each thread.
        on_progress: called with the number of faces that were done since the last call.
        processes: the processes that share the photos, in batches; all must see `out` and give the same arguments.
            None: this process alone.
        judge: compares the faces after all photos are searched, and chooses among several faces of a photo; None: the
            rule alone chooses. `described` must say which one it is.

    Raises:
        ConfigError: `out` belongs to other arguments or another process uses it; landmarks and a detector, or neither;
            a rule that needs boxes without boxes.
        DataError: `out` has other content, or cannot be written.
        OtherProcessError: another process raised one of these.
    """
    crops = crops or CropSettings()
    if (wanted.landmarks is None) == (detector is None):
        raise ConfigError("give either landmarks or a detector")
    if detector is not None and crops.choose == "nearest_box" and wanted.boxes is None:
        raise ConfigError("choose=nearest_box needs boxes; give boxes=<a file>, or choose largest or central")
    settings = json.loads(json.dumps({"photos": os.path.abspath(wanted.base), **vars(crops), **(described or {})}))
    rank = 0 if processes is None else processes.rank
    names = crop_names(wanted, suffix=FORMATS[crops.image_format])
    todo: list[int] = []
    counts: AlignmentCounts | None = None
    with ExitStack() as held:
        held.enter_context(_opencv_in_one_thread())
        with failing_together(processes):
            if rank == 0:
                held.enter_context(own_folder(out, settings))
                journal = _whole_journal(out, None)
                todo = _to_do(wanted, names, journal, out)
                if len(todo):
                    write_summary(out, settings, None)  # until all crops are made
        if processes is not None:
            todo = processes.gather_objects(todo)[0]
        with failing_together(processes):
            if processes is not None:
                journal = Journal(_journal_part(out, rank))
            writer = CropWriter(
                wanted=wanted, names=names, out=out, detector=detector, crops=crops, are_compared=judge is not None
            )
            on_progress(len(wanted) - len(todo))
        share = _Share(batch_size=batch_size, num_threads=num_threads, processes=processes)
        share.write(todo, writer.write, journal, on_progress=on_progress)
        judgement = None if judge is None else _judged(judge, writer, out, settings, share)
        with failing_together(processes):
            if rank == 0:
                journal = _whole_journal(out, processes)
                done_before = len(wanted) - len(todo)
                counts = _finished(wanted, names, journal, out, settings, judgement, num_done_before=done_before)
        if processes is not None:
            counts = processes.gather_objects(counts)[0]
    assert counts is not None  # it comes from the first process
    return counts


@dataclass(frozen=True, kw_only=True)
class _Share:
    """This process's share of the work, in batches that several threads do; see `align_photos`."""

    batch_size: int
    num_threads: int
    processes: "Processes | None"

    def write(
        self,
        numbers: Sequence[int],
        write: Callable[[Sequence[int]], list[Entry]],
        journal: Journal,
        *,
        on_progress: Callable[[int], None] = lambda num_faces: None,
    ) -> None:
        """Writes the crops of wanted faces, and their entries into this process's journal, in the order of numbers."""
        rank, world_size = (0, 1) if self.processes is None else (self.processes.rank, self.processes.world_size)
        batches = [numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size)]
        with closing(in_threads(write, batches[rank::world_size], num_threads=self.num_threads)) as written:
            for _ in range(0, len(batches), world_size):
                with failing_together(self.processes):  # after each batch: an error of one ends the work of all
                    entries = next(written, [])
                    journal.append(entries)
                    on_progress(len(entries) * world_size)  # the other processes have done as many


def _judged(judge: FaceJudge, writer: CropWriter, out: Path, settings: Mapping[str, Any], share: _Share) -> Judgement:
    """Compares all faces, and writes the crops again for which the judge takes another face."""
    processes = share.processes
    is_first = processes is None or processes.is_first
    with failing_together(processes):
        if is_first:
            _whole_journal(out, processes)
    with failing_together(processes):
        known = Journal(out / JOURNAL_FILE)
        candidates = CandidateFaces(
            wanted=writer.wanted, names=writer.names, journal=known, out=out, size_px=writer.crops.size_px
        )
    judgement = judge(candidates, out / JUDGE_FOLDER)
    to_take = candidates.to_take(judgement.choices)
    if processes is not None:
        to_take = processes.gather_objects(to_take)[0]
    with failing_together(processes):
        if to_take and is_first:
            write_summary(out, settings, None)
        journal = known if processes is None else Journal(_journal_part(out, processes.rank))

    def take(batch: Sequence[int]) -> list[Entry]:
        return [writer.take(number, candidates.entry(number), to_take[number]) for number in batch]

    share.write(sorted(to_take), take, journal)
    return judgement


def _finished(
    wanted: WantedFaces,
    names: StringTable,
    journal: Journal,
    out: Path,
    settings: Mapping[str, Any],
    judgement: Judgement | None,
    *,
    num_done_before: int,
) -> AlignmentCounts:
    """Writes the tables and the summary."""
    left_over = _left_over(journal, names, out)
    choices = {} if judgement is None else judgement.choices
    write_landmarks(out / LANDMARKS_FILE, wanted, journal.read(names))
    write_report(out / REPORT_FILE, wanted, journal.read(names), left_over)
    num_about_as_large = write_several(
        out / SEVERAL_FILE, wanted, names, journal, rule=settings["choose"], choices=choices
    )
    if judgement is not None:
        write_doubtful(out / DOUBTFUL_FILE, wanted, names, judgement.doubtful)
    counts = replace(
        _counts(wanted, journal.read(names), num_done_before=num_done_before, num_left_over=len(left_over)),
        num_about_as_large=num_about_as_large,
        num_compared=len(choices),
        num_other_face=sum(not choice.is_first for choice in choices.values()),
        num_doubtful=0 if judgement is None else len(judgement.doubtful),
    )
    write_summary(out, settings, {k: v for k, v in vars(counts).items() if k != "num_done_before"})
    return counts


def _whole_journal(out: Path, processes: "Processes | None") -> Journal:
    """Returns the journal, with the entries of these processes, and of those of a killed run."""
    journal = Journal(out / JOURNAL_FILE)
    ranks = range(0 if processes is None else processes.world_size)
    now = {_journal_part(out, rank) for rank in ranks}  # a network's list of files may be an older one
    for path in sorted(now | set(out.glob(JOURNAL_PARTS))):
        journal.take_over(path)
    return journal


def _journal_part(out: Path, rank: int) -> Path:
    return out / JOURNAL_PARTS.replace("*", str(rank))


def _to_do(wanted: WantedFaces, names: StringTable, journal: Journal, out: Path) -> list[int]:
    """Returns the wanted faces without an entry, or with one that no longer holds."""
    todo = []
    known = progress_bar(journal.read(names), what="searching for finished photos", unit="photos", total=len(wanted))
    for number, entry in enumerate(known):
        path = os.path.join(wanted.base, wanted.paths[number])
        holds = (
            entry is not None
            and entry.reason != NEEDS_PACKAGE  # the package may be installed now
            and entry.photo == wanted.paths[number]
            and (entry.photo_bytes, entry.photo_mtime_ns) == stamp(path)
            and (entry.reason is not None or stamp(str(out / entry.crop))[0] == entry.crop_bytes)
        )
        if not holds:
            todo.append(number)
    return todo


def _left_over(journal: Journal, names: StringTable, out: Path) -> list[Entry]:
    """Returns crops of an earlier run whose photos are not wanted any more; they are kept and reported."""
    gone = sorted(set(journal) - set(names))
    return [entry for entry in journal.read(gone) if entry and entry.reason is None and (out / entry.crop).is_file()]


def _counts(
    wanted: WantedFaces, entries: Iterator[Entry | None], *, num_done_before: int, num_left_over: int
) -> AlignmentCounts:
    reasons = Counter(reason for _, reason, _ in wanted.left_out)
    has_crop = np.zeros(len(wanted.identities), dtype=bool)
    judged, rejected = FacesOfAList(), FacesOfAList()
    num_with_several = num_turned = 0
    for label, entry in zip(wanted.labels.tolist(), entries, strict=True):
        assert entry is not None
        if entry.reason is None:
            has_crop[label] = True
            num_with_several += (entry.num_faces or 0) > 1
            num_turned += entry.turned_deg is not None
        else:
            reasons[entry.reason] += 1
        if wanted.landmarks is not None and entry.landmarks is not None and entry.photo_size_px is not None:
            judged.add(entry.landmarks, entry.photo_size_px)
            if entry.reason == "bad_landmarks":
                rejected.add(entry.landmarks, entry.photo_size_px)
    num_rejected = reasons.total() - len(wanted.left_out)
    if num_left_over:
        reasons[LEFT_OVER] = num_left_over
    return AlignmentCounts(
        num_wanted=len(wanted),
        num_aligned=len(wanted) - num_rejected,
        num_done_before=num_done_before,
        num_identities=int(has_crop.sum()) if wanted.has_identities else 0,
        num_lost_identities=int((~has_crop).sum()) if wanted.has_identities else 0,
        num_with_several=num_with_several,
        num_turned=num_turned,
        num_rejected=dict(sorted(reasons.items())),
        likely_cause=common_cause(rejected),
        landmarks_note=corner_note(judged),
    )


@contextmanager
def _opencv_in_one_thread() -> Iterator[None]:
    """Limits OpenCV to one thread: photos are shared between our threads, and OpenCV's threads would slow them."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
