"""Which kind of set lies at a path."""

from pathlib import Path
from typing import Literal, TypeAlias

from facerec.core.crop_size import DEFAULT_SIZE_PX, asked_size
from facerec.core.csv_lines import TABLE_SUFFIXES
from facerec.core.errors import ConfigError, DataError
from facerec.data.sources.folder_source import FolderSource
from facerec.data.sources.joined_source import JoinedSource
from facerec.data.sources.list_source import ListSource
from facerec.data.sources.record_source import RecordSource

AnySource: TypeAlias = RecordSource | FolderSource | ListSource | JoinedSource


def open_source(
    root: str | list[str],
    merge: Literal["none", "by_name"] = "none",
    height_px: int | None = None,
    width_px: int | None = None,
    *,
    renumber: bool = False,
) -> AnySource:
    """The set at a path, a table of photos, a folder with `train.rec`, or a folder with one folder per identity; or
    the sets at several paths as one.

    Args:
        root: the path, or several.
        merge: of several: see `JoinedSource`.
        height_px, width_px: size of the crops (`input.height_px`, `input.width_px`). None: what a record file's
            `property` says, else 112 x 112; with one of them, the other is 112.
        renumber: see `RecordSource`.

    Raises:
        DataError: there is nothing of the kind.
        ConfigError: there is one set, and nothing to merge it with; or a size is not positive.
    """
    size_px = asked_size(height_px, width_px)
    if not isinstance(root, str):
        return JoinedSource(parts=[_open_one(path, size_px, renumber) for path in root], merge=merge)
    if merge != "none":
        raise ConfigError(f"data.merge={merge} is for several sets, data.root=[a,b]; here is one: {root}")
    return _open_one(root, size_px, renumber)


def _open_one(root: str, size_px: tuple[int, int] | None, renumber: bool) -> RecordSource | FolderSource | ListSource:
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return ListSource(root=root, size_px=size_px or DEFAULT_SIZE_PX)
    if not path.is_dir():
        found = "it is a file" if path.exists() else "there is no such folder"
        raise DataError(
            f"{path}: {found}. Expected a folder with train.rec, train.idx and property (InsightFace's layout), or "
            "with one folder of aligned face crops per identity; or a .csv or .tsv with the columns path, identity"
        )
    if (path / "train.rec").exists():
        return RecordSource(root=root, size_px=size_px, renumber=renumber)
    return FolderSource(root=root, size_px=size_px or DEFAULT_SIZE_PX)
