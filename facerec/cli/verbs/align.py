"""`facerec align`: aligns photos to crops, by landmarks from a file or a detector."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from facerec.align.alignment import AlignmentCounts, align_photos
from facerec.align.crop_writer import CropSettings
from facerec.align.crops_folder import REPORT_FILE
from facerec.align.detectors import OnnxDetector, open_detector
from facerec.align.faces import Detector, check_detector
from facerec.align.landmark_files import FaceList, read_face_list
from facerec.align.wanted_faces import (
    WantedFaces,
    check_photos_are_there,
    face_in_photo,
    faces_in_folder,
    faces_in_list,
)
from facerec.cli.config.arguments import TARGET, build, check_arguments, check_keys
from facerec.cli.launching.exit_codes import started_with_others
from facerec.cli.launching.launch import in_processes
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.verbs.align_summary import print_summary
from facerec.cli.verbs.set_verbs import check_not_inside, read_settings, refuse_unread, size_overrides
from facerec.core.errors import ConfigError, DataError
from facerec.core.file_hash import sha256_of
from facerec.core.progress_bar import progress_bar
from facerec.core.threads import num_own_cores
from facerec.processes.agreement import failing_together

if TYPE_CHECKING:
    from facerec.embedding.model import Model
    from facerec.processes.group import Processes


@dataclass(frozen=True, kw_only=True)
class AlignSettings:
    """The keys of align.yaml that are not sections."""

    photos: Path | None
    landmarks: Path | None
    identities: Path | None
    boxes: Path | None
    out: Path
    choose: str
    model: str | None
    trust: str | list[str] | None
    device: str
    size: tuple[int, int]
    format: str
    jpeg_quality: int
    num_threads: int | None
    batch_size: int


def run(config: DictConfig, overrides: list[str]) -> int:
    """Aligns, and prints the results, their places and the rejected photos. Returns the exit code."""
    _settings(config, overrides)
    if (gpus := launch_settings(config).gpus) is not None:
        raise ConfigError(f"launch.gpus={gpus}: align works on the CPU; give launch.processes={gpus}")
    return in_processes("align", config, overrides, work=work, device="cpu", goes_on="from what is aligned")


def work(config: DictConfig, overrides: list[str]) -> int:
    """Aligns in this process, which a launcher may have started with others; see `run`."""
    if not started_with_others():
        return _align(config, overrides, None)
    from facerec.cli.launching.process_group import sharing

    with sharing(launch_settings(config), device="cpu") as processes:
        return _align(config, overrides, processes)


def _align(config: DictConfig, overrides: list[str], processes: "Processes | None") -> int:
    _quiet_opencv()
    with failing_together(processes):
        settings, detector_section = _settings(config, overrides)
        crops = CropSettings(
            choose=settings.choose,
            size_px=settings.size,
            image_format=settings.format,
            jpeg_quality=settings.jpeg_quality,
        )
        detector = None if settings.landmarks is not None else _opened_detector(config.detector)
        wanted = _wanted(settings)
        check_photos_are_there(wanted)
        described = _described(settings, detector, detector_section)
        model = None if settings.model is None else _model(settings, wanted)
    judge = None
    if model is not None:
        from facerec.analysis.folder_faces import FolderJudge

        described["model"] = model.described()
        judge = FolderJudge(embed=model, described=model.described(), num_threads=settings.num_threads)
    with progress_bar(what="aligning", unit="photos", total=len(wanted)) as bar:
        counts = align_photos(
            wanted,
            out=settings.out,
            detector=detector,
            crops=crops,
            described=described,
            num_threads=settings.num_threads or num_own_cores(),
            batch_size=settings.batch_size,
            on_progress=lambda num_faces: bar.update(min(num_faces, len(wanted) - bar.n)),
            processes=processes,
            judge=judge,
        )
    if processes is not None and not processes.is_first:
        return 0
    print_summary(
        out=settings.out,
        photos=settings.photos,
        wanted=wanted,
        counts=counts,
        rule=f"choose={settings.choose}",
        has_model=model is not None,
        inspect_overrides=size_overrides(settings.size).split(),
        is_refused=_is_refused(settings, counts),
    )
    _refuse_rejected(settings, counts)
    return 0


def _model(settings: AlignSettings, wanted: WantedFaces) -> "Model":
    """Opens the model that compares the faces; refuses one that cannot."""
    from facerec.embedding.model import open_model
    from facerec.processes.own_device import own_device

    if not wanted.has_identities:
        raise ConfigError(
            f"model={settings.model} compares the photos of a person with each other, and these photos are in no "
            "person's folder; remove model, or give the folder of the people's folders"
        )
    device = str(own_device(settings.device, key="device"))
    model = open_model(str(settings.model), device=device, flip=True, trust=settings.trust)
    takes_px = model.input_spec.size_px
    if takes_px != settings.size:
        raise ConfigError(
            f"model={settings.model} takes crops of {takes_px[0]} x {takes_px[1]} pixels, and size={[*settings.size]}; "
            f"give size=[{takes_px[0]},{takes_px[1]}] or another model"
        )
    return model


def _opened_detector(section: DictConfig) -> Detector:
    if TARGET not in section:
        values: Any = OmegaConf.to_container(section)
        return open_detector(**check_arguments(open_detector, values, section="detector"))
    detector: Detector = build(section)
    check_detector(detector)
    return detector


def _described(settings: AlignSettings, detector: Detector | None, section: dict[str, Any]) -> dict[str, Any]:
    """Returns what the crops depend on besides the photos and their own settings."""
    described: dict[str, Any] = {
        key: sha256_of(path)
        for key in ("landmarks", "identities", "boxes")
        if (path := getattr(settings, key)) is not None
    }
    if settings.photos is not None and settings.photos.is_file():
        described["photos"] = str(settings.photos.absolute())
    if isinstance(detector, OnnxDetector):
        described["detector"] = {
            "weights": sha256_of(detector.network.path),
            "min_score": detector.min_score,
            "max_overlap": detector.max_overlap,
            **vars(detector.search),
            "refine": detector.refine,
        }
    elif detector is not None:
        files = {key: Path(value).expanduser() for key, value in section.items() if isinstance(value, str)}
        contents = {key: sha256_of(path) for key, path in files.items() if path.is_file()}
        described["detector"] = {**section, **contents}
    return described


def _refuse_rejected(settings: AlignSettings, counts: AlignmentCounts) -> None:
    """Raises DataError if no crop was made, or fewer than half of a list; the crops that were made stay."""
    if not _is_refused(settings, counts):
        return
    what = f"no crop: all {counts.num_wanted} were rejected"
    if counts.num_aligned:
        num_rejected = counts.num_wanted - counts.num_aligned
        what = f"most of the list was rejected: {num_rejected} of {counts.num_wanted}"
    why = f". {counts.likely_cause[0].upper()}{counts.likely_cause[1:]}" if counts.likely_cause else ""
    raise DataError(f"{what}; see {settings.out / REPORT_FILE}{why}")


def _is_refused(settings: AlignSettings, counts: AlignmentCounts) -> bool:
    return not counts.num_aligned or (settings.landmarks is not None and 2 * counts.num_aligned < counts.num_wanted)


def _settings(config: DictConfig, overrides: list[str]) -> tuple[AlignSettings, dict[str, Any]]:
    """Returns the keys, and the section of the detector."""
    check_keys(config, {"detector", "launch", *AlignSettings.__dataclass_fields__})
    values: Any = OmegaConf.to_container(config)
    detector = values["detector"]
    settings = read_settings(AlignSettings, values, lowest={"num_threads": 1, "batch_size": 1})
    has_detector = TARGET in detector or detector["weights"] is not None
    if (settings.landmarks is not None) == has_detector:
        raise ConfigError(
            "give either landmarks=<a file> or detector.weights=<an .onnx of YuNet or SCRFD>; "
            f"found {'both' if has_detector else 'neither'}"
        )
    if settings.photos is None and settings.landmarks is None and settings.identities is None:
        raise ConfigError(
            "photos is not set; give photos=<a folder with one folder per identity, a folder of photos, or one photo>"
        )
    _refuse_unread(settings, overrides)
    if has_detector and TARGET not in detector:
        check_arguments(open_detector, detector, section="detector")
    return settings, detector


def _refuse_unread(settings: AlignSettings, overrides: list[str]) -> None:
    """Refuses keys that the other keys make useless."""
    if settings.landmarks is not None:
        why = f"landmarks={settings.landmarks} needs no detector"
        refuse_unread(overrides, ["detector", "choose", "boxes"], why=why)
    if settings.boxes is not None and settings.choose != "nearest_box":
        refuse_unread(overrides, ["boxes"], why="only choose=nearest_box uses it")
    if settings.model is None:
        refuse_unread(overrides, ["device", "trust"], why="only a model uses it")
    if settings.format == "png":
        refuse_unread(overrides, ["jpeg_quality"], why="format=png has no quality")


def _wanted(settings: AlignSettings) -> WantedFaces:
    boxes = None if settings.boxes is None else _with("boxes", settings.boxes)
    identities = None if settings.identities is None else _with("identities", settings.identities)
    has_list = settings.landmarks is not None or settings.identities is not None
    if settings.photos is not None and settings.photos.is_file() and not has_list:
        if boxes is not None:
            raise ConfigError(f"photos={settings.photos} is one photo, boxes are for a folder; remove boxes")
        return face_in_photo(settings.photos)
    if settings.photos is not None and not settings.photos.is_dir():
        found = "it is a file" if settings.photos.exists() else "there is no such folder"
        raise DataError(f"photos={settings.photos}: {found}; expected the folder of the photos")
    if settings.landmarks is not None:
        listed = _with("landmarks", settings.landmarks)
        return faces_in_list(listed, base=settings.photos or settings.landmarks.parent, identities=identities)
    if settings.identities is not None:
        assert identities is not None
        return faces_in_list(identities, base=settings.photos or settings.identities.parent, boxes=boxes)
    assert settings.photos is not None
    check_not_inside(settings.out, settings.photos)
    return faces_in_folder(settings.photos, boxes=boxes)


def _with(key: str, path: Path) -> FaceList:
    """Reads a list, which must have what the key needs."""
    faces = read_face_list(path)
    if getattr(faces, key) is None:
        hints = {
            "landmarks": "x1, y1 ... x5, y5. To detect them: identities=<this file> detector.weights=<an .onnx>",
            "identities": "path and identity",
            "boxes": "box_x, box_y, box_width, box_height",
        }
        raise DataError(f"{key}={path}: it has no {key}; expected {hints[key]}")
    return faces


def _quiet_opencv() -> None:
    """Hides OpenCV's messages about damaged photos, which are in the report."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
