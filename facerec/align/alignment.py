"""Aligns the wanted faces of photos into a folder of crops: by several threads, resumable, with a report."""

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.align_reports import LEFT_OVER, write_landmarks, write_report
from facerec.align.crops import align_crop
from facerec.align.faces import CHOICES, Detector, Faces, LooksAgain, choose_face
from facerec.align.journal import Entry, Journal
from facerec.align.landmark_causes import FacesOfAList, common_cause, corner_note
from facerec.align.landmark_checks import check_landmarks
from facerec.align.photo_reader import MissingReaderError, decode_rgb, encode_jpeg, encode_png, read_bytes
from facerec.align.wanted_faces import WantedFaces, crop_names
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, DataError
from facerec.core.litter import is_litter
from facerec.core.progress_bar import progress_bar
from facerec.core.string_table import StringTable
from facerec.core.threads import in_threads

JOURNAL_FILE = "journal.jsonl"
SUMMARY_FILE, LANDMARKS_FILE, REPORT_FILE = "align.json", "landmarks.csv", "report.csv"
NEEDS_PACKAGE = "needs_package"
"""Reason of a photo of a format that needs a package which is not installed."""
OWN_FOLDER = ".align"  # of the journal, the lock and half-written crops
FORMATS = {"jpeg": ".jpg", "png": ".png"}


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """What crops are made.

    Attributes:
        choose: which face of several; see `choose_face`.
        size_px: height and width.
        image_format: jpeg or png.
        jpeg_quality: 1 to 100.
    """

    choose: str = "largest"
    size_px: tuple[int, int] = (112, 112)
    image_format: str = "jpeg"
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise ConfigError(f"choose={self.choose}; expected one of {', '.join(CHOICES)}")
        if self.image_format not in FORMATS:
            raise ConfigError(f"format={self.image_format}; expected one of {', '.join(FORMATS)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality={self.jpeg_quality}; expected a number from 1 to 100")
        if not all(16 <= side <= 2048 for side in self.size_px):
            raise ConfigError(f"size={list(self.size_px)}; expected height and width, such as [112,112] or [112,96]")


@dataclass(frozen=True, kw_only=True)
class AlignmentCounts:
    """How it ended.

    Attributes:
        num_wanted, num_aligned: faces.
        num_done_before: of the wanted faces, those that an earlier run of the same command has done.
        num_identities: with at least one crop.
        num_lost_identities: without any.
        num_turned: of the faces aligned, those in photos that lie turned by 90, 180 or 270 degrees.
        num_rejected: by reason; those left out from the start too.
        likely_cause: what is common to the landmarks of a list that were rejected, or None; see `common_cause`.
        landmarks_note: what is odd about the landmarks of a list as a whole, or None; see `corner_note`.
    """

    num_wanted: int
    num_aligned: int
    num_done_before: int
    num_identities: int
    num_lost_identities: int
    num_turned: int
    num_rejected: Mapping[str, int]
    likely_cause: str | None = None
    landmarks_note: str | None = None


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
) -> AlignmentCounts:
    """Writes a crop for each wanted face, `landmarks.csv` of their photos, `report.csv` of those rejected and why.

    Started again with the same arguments it does what is left: photos not done yet, changed since, or whose crop has
    gone. What it writes depends neither on interruptions nor on `num_threads`.

    Args:
        wanted: the faces. Those without landmarks need the detector.
        out: the folder; new, empty, or of an earlier run with the same arguments.
        detector: finds the faces where `wanted` has no landmarks: any callable, see `Detector`.
        crops: what crops; None: the largest face, 112 x 112, JPEG of quality 95.
        described: what else the result depends on, in plain values (hashes of files, the detector's arguments); a
            later run into `out` must bring the same.
        num_threads: that read, detect, warp and write.
        batch_size: photos that the detector is given at once. What is done is noted batch by batch; a killed process
            loses the last few of each thread.
        on_progress: told how many more faces are done.

    Raises:
        ConfigError: `out` is of other arguments or in use by another process; landmarks and a detector, or neither; a
            rule that needs boxes without boxes.
        DataError: `out` holds something else, or cannot be written.
    """
    crops = crops or CropSettings()
    if (wanted.landmarks is None) == (detector is None):
        raise ConfigError("give landmarks or a detector, one of the two")
    if detector is not None and crops.choose == "nearest_box" and wanted.boxes is None:
        raise ConfigError("choose=nearest_box needs boxes; give boxes=<a file>, or choose largest or central")
    settings = json.loads(json.dumps({"photos": os.path.abspath(wanted.base), **vars(crops), **(described or {})}))
    with _own_folder(out, settings) as folder, _opencv_in_one_thread():
        journal = Journal(folder / JOURNAL_FILE)
        names = crop_names(wanted, suffix=FORMATS[crops.image_format])
        todo = _to_do(wanted, names, journal, out)
        if len(todo):
            _write_summary(out, settings, None)  # until it is done
        worker = _Worker(wanted, names, out, detector, crops)
        batches = (todo[start : start + batch_size] for start in range(0, len(todo), batch_size))
        on_progress(len(wanted) - len(todo))
        for entries in in_threads(worker.done, batches, num_threads=num_threads):
            journal.append(entries)
            on_progress(len(entries))
        left_over = _left_over(journal, names, out)
        write_landmarks(out / LANDMARKS_FILE, wanted, journal.read(names))
        write_report(out / REPORT_FILE, wanted, journal.read(names), left_over)
        counts = _counts(
            wanted, journal.read(names), num_done_before=len(wanted) - len(todo), num_left_over=len(left_over)
        )
        _write_summary(out, settings, counts)
    return counts


class _Worker:
    """What the threads share."""

    def __init__(
        self, wanted: WantedFaces, names: StringTable, out: Path, detector: Detector | None, crops: CropSettings
    ) -> None:
        self.wanted, self.names, self.out, self.detector, self.crops = wanted, names, out, detector, crops

    def done(self, batch: Sequence[int]) -> list[Entry]:
        """The faces of a batch, with their crops on disk."""
        entries: dict[int, Entry] = {}
        photos: dict[int, np.ndarray] = {}
        for number in batch:
            entries[number], photo = self._read(number)
            if photo is not None:
                photos[number] = photo
        if self.detector is not None and photos:
            found = self.detector(list(photos.values()))
            if len(found) != len(photos):
                raise DataError(
                    f"the detector gave faces for {len(found)} photos of {len(photos)}; expected one Faces for each"
                )
            for (number, photo), faces in zip(photos.items(), found, strict=True):
                entries[number] = self._chosen(number, entries[number], photo, faces)
        for number, photo in photos.items():
            if entries[number].reason is None:
                entries[number] = self._written(entries[number], photo)
            if entries[number].reason is not None:
                # The crop of the photo as it was. Of one that cannot be read now it stays: a disk may be away.
                (self.out / entries[number].crop).unlink(missing_ok=True)
        return list(entries.values())

    def _read(self, number: int) -> tuple[Entry, np.ndarray | None]:
        path = os.path.join(self.wanted.base, self.wanted.paths[number])
        size, mtime_ns = stamp(path)
        entry = Entry(
            crop=self.names[number], photo=self.wanted.paths[number], photo_bytes=size, photo_mtime_ns=mtime_ns
        )
        if size is None:
            return replace(entry, reason="missing", detail="there is no such file"), None
        try:
            photo = decode_rgb(read_bytes(path), where=path)
        except MissingReaderError as error:
            return replace(entry, reason=NEEDS_PACKAGE, detail=str(error).removeprefix(f"{path}: ")), None
        except DataError as error:
            return replace(entry, reason="unreadable", detail=str(error).removeprefix(f"{path}: ")), None
        if self.wanted.landmarks is not None:
            entry = replace(entry, landmarks=self.wanted.landmarks[number].ravel().tolist())
            if self.wanted.boxes is not None and np.isfinite(self.wanted.boxes[number]).all():
                entry = replace(entry, box=self.wanted.boxes[number].tolist())
        return entry, photo

    def _chosen(self, number: int, entry: Entry, photo: np.ndarray, faces: Faces) -> Entry:
        box = None if self.wanted.boxes is None else self.wanted.boxes[number]
        if self.crops.choose == "nearest_box" and not np.isfinite(box).all():  # type: ignore[arg-type]
            return replace(entry, reason="no_box", detail="boxes has no box for it")
        chosen = choose_face(
            faces, rule=self.crops.choose, photo_size_px=(photo.shape[0], photo.shape[1]), wanted_box=box
        )
        if chosen is None and len(faces):
            others = f"none of {len(faces)} faces lies at its box"
            return replace(entry, num_faces=len(faces), reason="no_face_at_box", detail=others)
        if chosen is None:
            detail = "; ".join(filter(None, ["the detector finds no face", faces.searched]))
            return replace(entry, num_faces=0, reason="no_face", detail=detail)
        points = faces.landmarks[chosen]
        if isinstance(self.detector, LooksAgain):
            try:
                points = self.detector.nearer_landmarks(photo, faces, chosen)
            except DataError as error:
                return replace(entry, num_faces=len(faces), reason="bad_landmarks", detail=str(error))
        # To a thousandth of a pixel, as landmarks.csv has them: it gives the same crops.
        return replace(
            entry,
            num_faces=len(faces),
            score=round(float(faces.scores[chosen]), 4),
            box=[round(value, 2) for value in faces.boxes[chosen].tolist()],
            landmarks=[round(value, 3) for value in points.ravel().tolist()],
            turned_deg=faces.turned_deg or None,
        )

    def _written(self, entry: Entry, photo: np.ndarray) -> Entry:
        points = np.array(entry.landmarks, dtype=np.float64).reshape(5, 2)
        entry = replace(entry, photo_size_px=[*photo.shape[:2]])
        try:
            check_landmarks(points, photo_size_px=(photo.shape[0], photo.shape[1]))
            crop = align_crop(photo, points, size_px=self.crops.size_px)
        except DataError as error:
            return replace(entry, reason="bad_landmarks", detail=str(error))
        is_png = self.crops.image_format == "png"
        content = encode_png(crop) if is_png else encode_jpeg(crop, quality=self.crops.jpeg_quality)
        path = self.out / entry.crop
        partial = self.out / OWN_FOLDER / "partial" / str(threading.get_ident())
        try:
            partial.write_bytes(content)
            path.parent.mkdir(exist_ok=True)
            os.replace(partial, path)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be written ({error.strerror}). The same command goes on from here once it can"
            ) from None
        return replace(entry, crop_bytes=len(content))


def stamp(path: str) -> tuple[int | None, int | None]:
    """Size in bytes and time of the last change of a file in nanoseconds; None where it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def _to_do(wanted: WantedFaces, names: StringTable, journal: Journal, out: Path) -> list[int]:
    """Of the wanted faces those that have no entry, or one that no longer holds."""
    todo = []
    known = progress_bar(journal.read(names), what="looking for what is done", unit="photos", total=len(wanted))
    for number, entry in enumerate(known):
        path = os.path.join(wanted.base, wanted.paths[number])
        holds = (
            entry is not None
            and entry.reason != NEEDS_PACKAGE  # it may be installed now
            and entry.photo == wanted.paths[number]
            and (entry.photo_bytes, entry.photo_mtime_ns) == stamp(path)
            and (entry.reason is not None or stamp(str(out / entry.crop))[0] == entry.crop_bytes)
        )
        if not holds:
            todo.append(number)
    return todo


def _left_over(journal: Journal, names: StringTable, out: Path) -> list[Entry]:
    """Crops of an earlier run whose photos are wanted no longer: they stay, and are told."""
    gone = sorted(set(journal) - set(names))
    return [entry for entry in journal.read(gone) if entry and entry.reason is None and (out / entry.crop).is_file()]


def _counts(
    wanted: WantedFaces, entries: Iterator[Entry | None], *, num_done_before: int, num_left_over: int
) -> AlignmentCounts:
    reasons = Counter(reason for _, reason, _ in wanted.left_out)
    has_crop = np.zeros(len(wanted.identities), dtype=bool)
    judged, rejected = FacesOfAList(), FacesOfAList()
    num_turned = 0
    for label, entry in zip(wanted.labels.tolist(), entries, strict=True):
        assert entry is not None
        if entry.reason is None:
            has_crop[label] = True
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
        num_identities=int(has_crop.sum()),
        num_lost_identities=int((~has_crop).sum()),
        num_turned=num_turned,
        num_rejected=dict(sorted(reasons.items())),
        likely_cause=common_cause(rejected),
        landmarks_note=corner_note(judged),
    )


@contextmanager
def _own_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """`out/.align`, for this process alone, once `out` is known to be new or of the same settings."""
    from filelock import FileLock, Timeout

    if (
        out.exists()
        and not (out / SUMMARY_FILE).is_file()
        and (not out.is_dir() or any(not is_litter(path.name) for path in out.iterdir()))
    ):
        raise DataError(f"{out} is there already, and not of facerec align; give a new or an empty folder")
    folder = out / OWN_FOLDER
    try:
        (folder / "partial").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be made ({error.strerror})") from None
    try:
        with FileLock(folder / "lock", timeout=0):
            _check_settings(out, settings)
            if not (out / SUMMARY_FILE).is_file():
                _write_summary(out, settings, None)
            yield folder
            shutil.rmtree(folder / "partial")
    except Timeout:
        raise ConfigError(f"out={out}: another facerec align writes there now") from None


def _check_settings(out: Path, settings: Mapping[str, Any]) -> None:
    if not (out / SUMMARY_FILE).is_file():
        return
    try:
        before = _flat(json.loads((out / SUMMARY_FILE).read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{out / SUMMARY_FILE} is not of facerec align; give a new or an empty folder") from None
    now = _flat(settings)
    changes = [
        f"{key}: {before.get(key, 'no such setting')} before, {now.get(key, 'no such setting')} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changes and not any(path.is_dir() and not is_litter(path.name) for path in out.iterdir()):
        for path in (out / SUMMARY_FILE, out / LANDMARKS_FILE, out / REPORT_FILE, out / OWN_FOLDER / JOURNAL_FILE):
            path.unlink(missing_ok=True)  # of nothing but rejected photos
    elif changes:
        raise ConfigError(
            f"out={out} has crops that were made otherwise ({'; '.join(changes)}); give another folder, or delete it"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested settings under their whole keys, such as `detector.turns`."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def is_unfinished(out: Path) -> bool:
    """Whether a folder is one into which `align_photos` has begun to write, and has not finished."""
    try:
        return json.loads((out / SUMMARY_FILE).read_text())["counts"] is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_summary(out: Path, settings: Mapping[str, Any], counts: AlignmentCounts | None) -> None:
    told = None if counts is None else {k: v for k, v in vars(counts).items() if k != "num_done_before"}
    with atomic_file(out / SUMMARY_FILE) as file:
        file.write((json.dumps({"settings": settings, "counts": told}, indent=1) + "\n").encode())


@contextmanager
def _opencv_in_one_thread() -> Iterator[None]:
    """Photos are shared out among our threads; OpenCV's own on top of them would only be in the way."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
